/* Stands before the calls by which a process changes files below one folder, and lets one of them go wrong.

   It can also write down every such call, for recorded.py to find out what a power cut would leave.
   Preloaded by LD_PRELOAD; see shim.py. It does nothing until shim_arm() is called, except that a process with
   SHIM_FOLDER and SHIM_FREE in its environment sees a disk with as many bytes free as the file that SHIM_FREE
   names says, and no write below SHIM_FOLDER that is larger succeeds; less than none free is a disk that is
   read-only. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { COUNT, KILL, TEAR, REFUSE };

static char armed[PATH_MAX];
static long strike_at, calls;
static int what, refusal, always;

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void shim_arm(const char *folder, long at, int mode, int error, int lasts) {
    snprintf(armed, sizeof armed, "%s", folder);
    strike_at = at, calls = 0, what = mode, refusal = error, always = lasts;
}

long shim_calls(void) { return calls; }

static int record = -1;

void shim_record(const char *path) { record = NEXT(open)(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600); }

/* Write one line, and the bytes that belong to it: when, what, where in the file, how many bytes, both names. */
static void keep(const char *what, const char *path, const char *other, long at, const void *data, size_t size) {
    struct timespec now;
    int kept = errno;
    clock_gettime(CLOCK_MONOTONIC, &now);
    char *line = malloc(2 * PATH_MAX + 128 + size);
    int length = sprintf(line, "%lld %s %ld %zu %s\t%s\n", now.tv_sec * 1000000000LL + now.tv_nsec, what, at, size,
                         path, other);
    memcpy(line + length, data, size);
    if (NEXT(write)(record, line, length + size) != (ssize_t)(length + size))
        abort();
    free(line);
    errno = kept;
}

void shim_note(const char *text) {
    if (record >= 0)
        keep("told", text, "", 0, "", 0);
}

static int lies_below(const char *path, const char *folder) {
    char here[PATH_MAX], whole[2 * PATH_MAX];
    if (path[0] != '/' && getcwd(here, sizeof here)) {
        snprintf(whole, sizeof whole, "%s/%s", here, path);
        path = whole;
    }
    return folder && folder[0] && strncmp(path, folder, strlen(folder)) == 0;
}

static long bytes_free(void) {
    char text[32] = "";
    const char *path = getenv("SHIM_FREE");
    int handle = path ? NEXT(open)(path, O_RDONLY | O_CLOEXEC) : -1;
    if (handle < 0)
        return LONG_MAX;
    if (read(handle, text, sizeof text - 1) < 0)
        text[0] = 0;
    close(handle);
    return atol(text);
}

static int is_read_only(const char *path) {
    return lies_below(path, getenv("SHIM_FOLDER")) && bytes_free() < 0 ? errno = EROFS, 1 : 0;
}

/* Return whether the call must fail, with errno set; kills the process where that is asked for. */
static int fails(const char *path, size_t size) {
    if (is_read_only(path))
        return 1;
    if (lies_below(path, getenv("SHIM_FOLDER")) && size && (long)size > bytes_free())
        return errno = ENOSPC, 1;
    if (!lies_below(path, armed) || (what == TEAR && !size))
        return 0;
    calls++;
    if (calls != strike_at && !(always && calls > strike_at && strike_at > 0))
        return 0;
    if (what == KILL)
        kill(getpid(), SIGKILL);
    errno = refusal;
    return what == TEAR || what == REFUSE;
}

static int name_of(int handle, char *path) {
    char link[64];
    int kept = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    errno = kept;
    path[length > 0 ? length : 0] = 0;
    return length > 0;
}

static int handle_fails(int handle, size_t size) {
    char path[PATH_MAX];
    return name_of(handle, path) && fails(path, size);
}

/* Write down what succeeded below the folder that is armed; returns how it ended. */
static int kept(int done, const char *what, const char *path, const char *other, long at) {
    if (done >= 0 && record >= 0 && lies_below(path, armed))
        keep(what, path, other, at, "", 0);
    return done;
}

static int kept_by_handle(int done, const char *what, int handle, long at) {
    char path[PATH_MAX];
    return record >= 0 && name_of(handle, path) ? kept(done, what, path, "", at) : done;
}

static ssize_t kept_write(ssize_t done, int handle, const void *data, long at) {
    char path[PATH_MAX];
    if (done > 0 && record >= 0 && name_of(handle, path) && lies_below(path, armed))
        keep("write", path, "", at >= 0 ? at : (long)lseek(handle, 0, SEEK_CUR) - done, data, done);
    return done;
}

static int ends_torn(void) { return what == TEAR ? kill(getpid(), SIGKILL) : 0; }

ssize_t write(int handle, const void *data, size_t size) {
    if (!handle_fails(handle, size))
        return kept_write(NEXT(write)(handle, data, size), handle, data, -1);
    if (what == TEAR && armed[0])
        NEXT(write)(handle, data, size / 2), ends_torn();
    return -1;
}

#define POSITIONED(name, offset)                                                                             \
    ssize_t name(int handle, const void *data, size_t size, offset at) {                                     \
        if (!handle_fails(handle, size))                                                                     \
            return kept_write(NEXT(name)(handle, data, size, at), handle, data, at);                         \
        if (what == TEAR && armed[0])                                                                        \
            NEXT(name)(handle, data, size / 2, at), ends_torn();                                             \
        return -1;                                                                                           \
    }
POSITIONED(pwrite, off_t)
POSITIONED(pwrite64, off64_t)

#define BY_HANDLE(name, what, parameters, arguments, at)                                                     \
    int name parameters {                                                                                    \
        return handle_fails(handle, 0) ? -1 : kept_by_handle(NEXT(name) arguments, what, handle, at);        \
    }
BY_HANDLE(fsync, "sync", (int handle), (handle), 0)
BY_HANDLE(fdatasync, "sync", (int handle), (handle), 0)
BY_HANDLE(ftruncate, "truncate", (int handle, off_t size), (handle, size), size)
BY_HANDLE(ftruncate64, "truncate", (int handle, off64_t size), (handle, size), size)

#define BY_PATH(name, parameters, arguments, path, other)                                                    \
    int name parameters { return fails(path, 0) ? -1 : kept(NEXT(name) arguments, #name, path, other, 0); }
BY_PATH(rename, (const char *from, const char *to), (from, to), to, from)
BY_PATH(link, (const char *from, const char *to), (from, to), to, from)
BY_PATH(symlink, (const char *from, const char *to), (from, to), to, from)
BY_PATH(unlink, (const char *path), (path), path, "")
BY_PATH(rmdir, (const char *path), (path), path, "")

int mkdir(const char *path, mode_t mode) {
    if (is_read_only(path) && NEXT(access)(path, F_OK) == 0)
        return errno = EEXIST, -1; /* as the kernel says for a folder that is there, also on such a disk */
    return fails(path, 0) ? -1 : kept(NEXT(mkdir)(path, mode), "mkdir", path, "", 0);
}

#define OPENING(name)                                                                                        \
    int name(const char *path, int flags, ...) {                                                             \
        va_list rest;                                                                                        \
        va_start(rest, flags);                                                                               \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;                                            \
        va_end(rest);                                                                                        \
        if ((flags & O_ACCMODE) != O_RDONLY && is_read_only(path))                                           \
            return -1;                                                                                       \
        if (!(flags & (O_CREAT | O_TRUNC)))                                                                  \
            return NEXT(name)(path, flags, mode);                                                            \
        if (fails(path, 0))                                                                                  \
            return -1;                                                                                       \
        const char *was = NEXT(access)(path, F_OK) ? "create" : flags & O_TRUNC ? "truncate" : NULL;         \
        int handle = NEXT(name)(path, flags, mode);                                                          \
        return was ? kept(handle, was, path, "", 0) : handle;                                                \
    }
OPENING(open)
OPENING(open64)

int access(const char *path, int mode) {
    return (mode & W_OK) && is_read_only(path) ? -1 : NEXT(access)(path, mode);
}

#define FREE_SPACE(name, type)                                                                               \
    int name(const char *path, struct type *found) {                                                         \
        int done = NEXT(name)(path, found);                                                                  \
        long bytes = done == 0 && lies_below(path, getenv("SHIM_FOLDER")) ? bytes_free() : LONG_MAX;         \
        if (bytes != LONG_MAX)                                                                               \
            found->f_bavail = (bytes > 0 ? bytes : 0) / found->f_frsize;                                     \
        return done;                                                                                         \
    }
FREE_SPACE(statvfs, statvfs)
FREE_SPACE(statvfs64, statvfs64)
