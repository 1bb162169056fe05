/* Linked against a libc of the future, whose symbol versions this machine's does not have. */
#include "weir_provider.h"

extern int of_the_future(void);

static int32_t describe(const weir_output *out) {
    (void)out;
    return of_the_future();
}

const weir_provider_table weir_provider_v1 = {
    .magic = WEIR_PROVIDER_MAGIC,
    .abi_major = WEIR_PROVIDER_ABI_MAJOR,
    .abi_minor = WEIR_PROVIDER_ABI_MINOR,
    .struct_size = sizeof(weir_provider_table),
    .panics = WEIR_PANICS_NONE,
    .describe = describe,
};
