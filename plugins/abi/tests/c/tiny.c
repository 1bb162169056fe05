/*
 * A whole resource provider in C: starts workers as processes of this machine, and keeps none of them when it ends.
 *
 *   cc -shared -fPIC -pthread -I plugins/abi/include tiny.c -o libweir_provider_tiny.so
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "weir_provider.h"

/* ---- the little of protobuf that is needed ------------------------------------------------------------------ */

/* A message being read. */
typedef struct {
    const uint8_t *at, *end;
} reader;

/* A field: a number for wire type 0, bytes for wire type 2. Others have no value here. */
typedef struct {
    uint64_t number, value;
    reader bytes;
} field;

static int read_varint(reader *in, uint64_t *value) {
    *value = 0;
    for (int shift = 0; shift < 64 && in->at < in->end; shift += 7) {
        uint8_t byte = *in->at++;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) return 1;
    }
    return 0;
}

/* The next field; 0 at the end of the message, and where it is broken. */
static int next_field(reader *in, field *out) {
    uint64_t key, len = 0;
    if (!read_varint(in, &key)) return 0;
    memset(out, 0, sizeof *out);
    out->number = key >> 3;
    switch (key & 7) {
    case 0: return read_varint(in, &out->value);
    case 1: len = 8; break;
    case 2: if (!read_varint(in, &len)) return 0; break;
    case 5: len = 4; break;
    default: return 0;
    }
    if (len > (uint64_t)(in->end - in->at)) return 0;
    out->bytes = (reader){in->at, in->at + len};
    in->at += len;
    return 1;
}

static char *text_of(reader bytes) {
    return strndup((const char *)bytes.at, (size_t)(bytes.end - bytes.at));
}

/* A message being written; what does not fit is cut off, and all messages here are short. */
typedef struct {
    size_t len;
    uint8_t bytes[1024];
} writer;

static void write_varint(writer *out, uint64_t value) {
    while (out->len < sizeof out->bytes) {
        uint8_t byte = value & 0x7f;
        value >>= 7;
        out->bytes[out->len++] = value ? byte | 0x80 : byte;
        if (!value) return;
    }
}

static void write_bytes(writer *out, uint64_t number, const void *bytes, size_t len) {
    size_t room = sizeof out->bytes - out->len;
    if (room < 12) return;
    if (len > room - 12) len = room - 12;
    write_varint(out, number << 3 | 2);
    write_varint(out, len);
    memcpy(out->bytes + out->len, bytes, len);
    out->len += len;
}

static void write_text(writer *out, uint64_t number, const char *text) {
    write_bytes(out, number, text, strlen(text));
}

static void write_number(writer *out, uint64_t number, uint64_t value) {
    write_varint(out, number << 3);
    write_varint(out, value);
}

/* ---- the provider ------------------------------------------------------------------------------------------- */

/* Numbers of provider.proto. */
enum { REQUEST_RECOVER = 1, REQUEST_START = 2, REQUEST_STOP = 3, REQUEST_SHUTDOWN = 5 };
enum { EVENT_RECOVERED = 1, EVENT_STARTED = 2, EVENT_READY = 3, EVENT_TERMINATED = 4, EVENT_CLOSED = 8 };

typedef struct provider provider;

typedef struct worker {
    provider *owner;
    char *id, **command;
    pid_t pid; /* 0 until it is started */
    int stop;  /* asked for */
    struct worker *next;
} worker;

struct provider {
    const weir_host *host;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    worker *workers;
    int leave; /* closed without stopping workers: nothing is told about them any more */
};

static void tell(provider *self, int event, const writer *message) {
    writer out = {0};
    write_bytes(&out, (uint64_t)event, message->bytes, message->len);
    self->host->on_event(self->host->ctx, out.bytes, out.len);
}

static void tell_worker(provider *self, int event, const char *id, const char *text) {
    writer message = {0};
    write_text(&message, 1, id);
    if (text) write_text(&message, 2, text);
    if (event == EVENT_TERMINATED) write_number(&message, 3, 1);
    tell(self, event, &message);
}

static void free_worker(worker *it) {
    for (char **argument = it->command; argument && *argument; argument++) free(*argument);
    free(it->command);
    free(it->id);
    free(it);
}

/* Starts the command. Its failure comes through a pipe that a successful exec closes. */
static pid_t start_command(char **command, char *problem, size_t size) {
    int report[2], code = 0;
    /* Closed by any exec, also of a worker that is being started on another thread at this moment. */
    if (pipe2(report, O_CLOEXEC)) {
        snprintf(problem, size, "no pipe: %s", strerror(errno));
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        execvp(command[0], command);
        code = errno;
        (void)!write(report[1], &code, sizeof code);
        _exit(127);
    }
    close(report[1]);
    if (pid > 0 && read(report[0], &code, sizeof code) > 0) {
        waitpid(pid, NULL, 0);
        pid = -1;
    }
    close(report[0]);
    if (pid < 0) snprintf(problem, size, "%s cannot be started: %s", command[0], strerror(code ? code : errno));
    return pid;
}

/* The life of a worker, on a thread of its own, so that no request waits. */
static void *keep(void *argument) {
    worker *it = argument;
    provider *self = it->owner;
    char text[256];
    pthread_mutex_lock(&self->lock);
    pid_t pid = start_command(it->command, text, sizeof text);
    if (pid > 0) {
        int status;
        char location[32];
        it->pid = pid;
        snprintf(location, sizeof location, "pid %d", (int)pid);
        tell_worker(self, EVENT_STARTED, it->id, location);
        tell_worker(self, EVENT_READY, it->id, NULL);
        if (it->stop) kill(-pid, SIGKILL);
        pthread_mutex_unlock(&self->lock);
        /* Waited for without being reaped, so that the number stays its own as long as it can be stopped. */
        siginfo_t info;
        while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) && errno == EINTR) {}
        pthread_mutex_lock(&self->lock);
        kill(-pid, SIGKILL);
        waitpid(pid, &status, 0);
        if (WIFSIGNALED(status)) snprintf(text, sizeof text, "ended by signal %d", WTERMSIG(status));
        else snprintf(text, sizeof text, "exited with status %d", WEXITSTATUS(status));
    }
    if (!self->leave) tell_worker(self, EVENT_TERMINATED, it->id, text);
    for (worker **link = &self->workers; *link; link = &(*link)->next) {
        if (*link == it) {
            *link = it->next;
            break;
        }
    }
    free_worker(it);
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

static int32_t detach(void *(*run)(void *), void *argument) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, argument)) return WEIR_ERROR;
    pthread_detach(thread);
    return WEIR_OK;
}

/* WorkerSpec: id = 1, command = 4. */
static worker *read_spec(reader in) {
    size_t count = 0;
    field part;
    worker *it = calloc(1, sizeof *it);
    if (!it) return NULL;
    it->command = calloc((size_t)(in.end - in.at) + 1, sizeof *it->command);
    while (it->command && next_field(&in, &part)) {
        if (part.number == 1 && !it->id) it->id = text_of(part.bytes);
        if (part.number == 4) it->command[count++] = text_of(part.bytes);
    }
    if (it->id && it->command && count) return it;
    free_worker(it);
    return NULL;
}

static int32_t on_start(provider *self, reader spec) {
    worker *it = read_spec(spec);
    if (!it) return WEIR_ERROR;
    pthread_mutex_lock(&self->lock);
    it->owner = self;
    it->next = self->workers;
    self->workers = it;
    int32_t code = detach(keep, it);
    if (code != WEIR_OK) {
        self->workers = it->next;
        tell_worker(self, EVENT_TERMINATED, it->id, "no thread could be started for it");
        free_worker(it);
    }
    pthread_mutex_unlock(&self->lock);
    return WEIR_OK;
}

/* Kills the worker, or all if id is NULL. */
static void on_stop(provider *self, const char *id) {
    pthread_mutex_lock(&self->lock);
    for (worker *it = self->workers; it; it = it->next) {
        if (id && strcmp(id, it->id)) continue;
        it->stop = 1;
        if (it->pid) kill(-it->pid, SIGKILL);
    }
    pthread_mutex_unlock(&self->lock);
}

/* Says Closed when no worker is left. */
static void *finish(void *argument) {
    provider *self = argument;
    pthread_mutex_lock(&self->lock);
    while (self->workers && !self->leave) pthread_cond_wait(&self->changed, &self->lock);
    tell(self, EVENT_CLOSED, &(writer){0});
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

/* ---- the table ---------------------------------------------------------------------------------------------- */

static int32_t tiny_describe(const weir_output *out) {
    writer message = {0};
    write_text(&message, 1, "tiny");
    write_text(&message, 2, "1.0");
    write_text(&message, 3, "Starts workers as processes, in C");
    out->write(out->ctx, message.bytes, message.len);
    return WEIR_OK;
}

static int32_t tiny_open(const uint8_t *request, size_t len, const weir_host *host, void **handle, const weir_output *error) {
    (void)request, (void)len;
    provider *self = calloc(1, sizeof *self);
    if (!self) {
        static const char text[] = "out of memory";
        error->write(error->ctx, (const uint8_t *)text, sizeof text - 1);
        return WEIR_ERROR;
    }
    self->host = host;
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->changed, NULL);
    *handle = self;
    return WEIR_OK;
}

static int32_t tiny_request(void *handle, const uint8_t *request, size_t len, const weir_output *error) {
    provider *self = handle;
    reader in = {request, request + len};
    field message, part;
    int32_t code = WEIR_OK;
    if (!next_field(&in, &message)) return WEIR_OK;
    switch (message.number) {
    case REQUEST_RECOVER:
        /* Workers do not outlive the provider, so there are none. */
        tell(self, EVENT_RECOVERED, &(writer){0});
        break;
    case REQUEST_START:
        if (next_field(&message.bytes, &part) && part.number == 1) code = on_start(self, part.bytes);
        break;
    case REQUEST_STOP:
        if (next_field(&message.bytes, &part) && part.number == 1) {
            char *id = text_of(part.bytes);
            on_stop(self, id);
            free(id);
        }
        break;
    case REQUEST_SHUTDOWN: {
        int stop_workers = 0;
        while (next_field(&message.bytes, &part)) stop_workers |= part.number == 1 && part.value;
        if (stop_workers) {
            on_stop(self, NULL);
        } else {
            pthread_mutex_lock(&self->lock);
            self->leave = 1;
            pthread_mutex_unlock(&self->lock);
        }
        code = detach(finish, self);
        break;
    }
    default:
        /* A hint, or something of a later version. */
        break;
    }
    if (code != WEIR_OK) {
        static const char text[] = "the request cannot be done: no memory, or a spec without id or command";
        error->write(error->ctx, (const uint8_t *)text, sizeof text - 1);
    }
    return code;
}

/* The provider itself is kept: threads of workers that were left still use it. */
static int32_t tiny_close(void *handle, const weir_output *error) {
    (void)error;
    provider *self = handle;
    pthread_mutex_lock(&self->lock);
    self->leave = 1;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
    return WEIR_OK;
}

const weir_provider_table weir_provider_v1 = {
    .magic = WEIR_PROVIDER_MAGIC,
    .abi_major = WEIR_PROVIDER_ABI_MAJOR,
    .abi_minor = WEIR_PROVIDER_ABI_MINOR,
    .struct_size = sizeof(weir_provider_table),
    .panics = WEIR_PANICS_NONE,
    .build_info = "tiny 1.0, C",
    .describe = tiny_describe,
    .open = tiny_open,
    .request = tiny_request,
    .close = tiny_close,
};
