/*
 * weir_provider.h: how a resource provider in any language is loaded by Weir's JobManager.
 *
 * A provider plugin is a shared library, libweir_provider_<name>.so, that exports one symbol: a constant table named
 * weir_provider_v1. What crosses are the bytes of the messages in provider.proto. docs/providers.md is the guide,
 * plugins/abi/tests/c/tiny.c a whole provider.
 *
 * Rules
 *   Versions  The host reads the first 24 bytes of the table out of the file and refuses another abi_major, or a table smaller
 *             than it knows, before the library is loaded. Later minor versions add fields at the end of a table; whoever
 *             wants one of these looks at the other side's struct_size first. Unknown fields of messages and unknown messages are left out.
 *   Memory    Bytes that come as an argument are lent until the function returns: copy what is to stay. Bytes that go out are
 *             written to a weir_output, which copies them. So nothing is ever freed by the other side.
 *   Threads   The host calls open, request and close of one handle one after the other, from a thread made for this
 *             plugin; different handles may be used at the same time. on_event and log may be called from any thread at any time, also
 *             from within open and request. The host's table stays valid until the process ends; what is told after close is left out.
 *   Waiting   describe, open, request and close return at once; work is done by the plugin's own threads. A call that takes longer
 *             than the host's deadline (10 s) is reported as a failure of the provider, and no new workers are asked of it meanwhile.
 *   Failing   Nothing may be thrown or unwound through these functions. Their own failures are codes, with a text written to `error`.
 *   Unloading never happens.
 */
#ifndef WEIR_PROVIDER_H
#define WEIR_PROVIDER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_PROVIDER_MAGIC {'W', 'E', 'I', 'R', 'P', 'R', 'O', 'V'}
#define WEIR_PROVIDER_ABI_MAJOR 1
#define WEIR_PROVIDER_ABI_MINOR 0

/* weir_provider_table.panics */
#define WEIR_PANICS_NONE 0   /* the language does not unwind, or nothing it throws leaves a function of the table */
#define WEIR_PANICS_UNWIND 1 /* Rust with panic = "unwind": panics are caught inside the plugin */
#define WEIR_PANICS_ABORT 2  /* Rust with panic = "abort": refused, a panic would end the JobManager */

/* What functions of the table return. */
#define WEIR_OK 0
#define WEIR_ERROR 1    /* not done; the text written to `error` says why */
#define WEIR_PANICKED 2 /* a panic was caught; the provider is not used any more */

/* weir_host.log */
#define WEIR_LOG_ERROR 1 /* work was lost */
#define WEIR_LOG_WARN 2  /* someone should look */
#define WEIR_LOG_INFO 3  /* a state changed */
#define WEIR_LOG_DEBUG 4

/* Takes bytes and keeps a copy. May be called several times; the pieces are put together. Lent for one call. */
typedef struct weir_output {
    void *ctx; /* for write */
    void (*write)(void *ctx, const uint8_t *bytes, size_t len);
} weir_output;

/* What the host offers. */
typedef struct weir_host {
    uint32_t struct_size; /* of the host's table */
    uint32_t abi_minor;   /* of the host */
    void *ctx;            /* for the functions */
    /* Takes an Event. */
    void (*on_event)(void *ctx, const uint8_t *event, size_t len);
    /* Takes a line of UTF-8 for the JobManager's log. */
    void (*log)(void *ctx, int32_t level, const uint8_t *text, size_t len);
} weir_host;

/* What the plugin exports. */
typedef struct weir_provider_table {
    uint8_t magic[8];       /* WEIR_PROVIDER_MAGIC */
    uint32_t abi_major;     /* WEIR_PROVIDER_ABI_MAJOR */
    uint32_t abi_minor;     /* WEIR_PROVIDER_ABI_MINOR */
    uint32_t struct_size;   /* sizeof(weir_provider_table) */
    uint8_t panics;         /* WEIR_PANICS_... */
    uint8_t reserved[3];    /* 0 */
    const char *build_info; /* for people: name, version, compiler; may be NULL */

    /* Writes a Description. */
    int32_t (*describe)(const weir_output *out);

    /* Opens the provider for a cluster: an OpenRequest in, a handle of the plugin's choice out. */
    int32_t (*open)(const uint8_t *request, size_t len, const weir_host *host, void **handle, const weir_output *error);

    /* Takes a Request. What comes of it is told by events. */
    int32_t (*request)(void *handle, const uint8_t *request, size_t len, const weir_output *error);

    /* Frees the handle. Called once, after the last request, whether or not that was a Shutdown; without one the workers go on. */
    int32_t (*close)(void *handle, const weir_output *error);
} weir_provider_table;

/* Defined by the plugin. */
extern
#if defined(__GNUC__)
    __attribute__((visibility("default")))
#endif
    const weir_provider_table weir_provider_v1;

#ifdef __cplusplus
}
#endif

#endif
