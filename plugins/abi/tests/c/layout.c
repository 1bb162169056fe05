/* Compiled by a test: the header says the same as the Rust side, whose numbers come as macros. */
#include "weir_provider.h"

#define SAME(what, rust) _Static_assert((what) == (rust), #what " differs between weir_provider.h and Rust")

SAME(WEIR_PROVIDER_ABI_MAJOR, RUST_ABI_MAJOR);
SAME(WEIR_PROVIDER_ABI_MINOR, RUST_ABI_MINOR);
SAME(WEIR_PANICS_NONE, RUST_PANICS_NONE);
SAME(WEIR_PANICS_UNWIND, RUST_PANICS_UNWIND);
SAME(WEIR_PANICS_ABORT, RUST_PANICS_ABORT);
SAME(WEIR_OK, RUST_OK);
SAME(WEIR_ERROR, RUST_ERROR);
SAME(WEIR_PANICKED, RUST_PANICKED);
SAME(WEIR_LOG_ERROR, RUST_LOG_ERROR);
SAME(WEIR_LOG_WARN, RUST_LOG_WARN);
SAME(WEIR_LOG_INFO, RUST_LOG_INFO);
SAME(WEIR_LOG_DEBUG, RUST_LOG_DEBUG);

SAME(sizeof(weir_output), RUST_SIZE_Output);
SAME(offsetof(weir_output, ctx), RUST_Output_ctx);
SAME(offsetof(weir_output, write), RUST_Output_write);

SAME(sizeof(weir_host), RUST_SIZE_HostTable);
SAME(offsetof(weir_host, struct_size), RUST_HostTable_struct_size);
SAME(offsetof(weir_host, abi_minor), RUST_HostTable_abi_minor);
SAME(offsetof(weir_host, ctx), RUST_HostTable_ctx);
SAME(offsetof(weir_host, on_event), RUST_HostTable_on_event);
SAME(offsetof(weir_host, log), RUST_HostTable_log);

SAME(sizeof(weir_provider_table), RUST_SIZE_ProviderTable);
SAME(offsetof(weir_provider_table, magic), RUST_ProviderTable_magic);
SAME(offsetof(weir_provider_table, abi_major), RUST_ProviderTable_abi_major);
SAME(offsetof(weir_provider_table, abi_minor), RUST_ProviderTable_abi_minor);
SAME(offsetof(weir_provider_table, struct_size), RUST_ProviderTable_struct_size);
SAME(offsetof(weir_provider_table, panics), RUST_ProviderTable_panics);
SAME(offsetof(weir_provider_table, reserved), RUST_ProviderTable_reserved);
SAME(offsetof(weir_provider_table, build_info), RUST_ProviderTable_build_info);
SAME(offsetof(weir_provider_table, describe), RUST_ProviderTable_describe);
SAME(offsetof(weir_provider_table, open), RUST_ProviderTable_open);
SAME(offsetof(weir_provider_table, request), RUST_ProviderTable_request);
SAME(offsetof(weir_provider_table, close), RUST_ProviderTable_close);

static const uint8_t magic[8] = WEIR_PROVIDER_MAGIC;
const uint8_t *use_magic(void) { return magic; }
