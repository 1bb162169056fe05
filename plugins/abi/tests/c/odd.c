/* Plugins that must be refused before they are loaded: loading one ends the process. What is odd about it comes as macros. */
#include <stdlib.h>

#include "weir_provider.h"

#ifndef SYMBOL
#define SYMBOL weir_provider_v1
#endif
#ifndef MAJOR
#define MAJOR WEIR_PROVIDER_ABI_MAJOR
#endif
#ifndef SIZE
#define SIZE sizeof(weir_provider_table)
#endif
#ifndef PANICS
#define PANICS WEIR_PANICS_NONE
#endif
#ifndef MAGIC
#define MAGIC WEIR_PROVIDER_MAGIC
#endif

__attribute__((constructor)) static void loaded(void) { abort(); }

const weir_provider_table SYMBOL = {
    .magic = MAGIC,
    .abi_major = MAJOR,
    .abi_minor = WEIR_PROVIDER_ABI_MINOR,
    .struct_size = SIZE,
    .panics = PANICS,
};
