/* Stands before the calls by which a process changes files below one folder, and lets one of them go wrong.

   Preloaded by LD_PRELOAD; see shim.py. It does nothing until shim_arm() is called, except that a process with
   SHIM_FOLDER and SHIM_FREE in its environment sees a disk with as many bytes free as the file that SHIM_FREE
   names says, and no write below SHIM_FOLDER that is larger succeeds. */
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

/* Return whether the call must fail, with errno set; kills the process where that is asked for. */
static int fails(const char *path, size_t size) {
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

static int handle_fails(int handle, size_t size) {
    char link[64], path[PATH_MAX];
    int kept = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = kept;
    if (length <= 0)
        return 0;
    path[length] = 0;
    return fails(path, size);
}

static int ends_torn(void) { return what == TEAR ? kill(getpid(), SIGKILL) : 0; }

ssize_t write(int handle, const void *data, size_t size) {
    if (!handle_fails(handle, size))
        return NEXT(write)(handle, data, size);
    if (what == TEAR && armed[0])
        NEXT(write)(handle, data, size / 2), ends_torn();
    return -1;
}

#define POSITIONED(name, offset)                                                                             \
    ssize_t name(int handle, const void *data, size_t size, offset at) {                                     \
        if (!handle_fails(handle, size))                                                                     \
            return NEXT(name)(handle, data, size, at);                                                       \
        if (what == TEAR && armed[0])                                                                        \
            NEXT(name)(handle, data, size / 2, at), ends_torn();                                             \
        return -1;                                                                                           \
    }
POSITIONED(pwrite, off_t)
POSITIONED(pwrite64, off64_t)

#define BY_HANDLE(name, parameters, arguments)                                                               \
    int name parameters { return handle_fails(handle, 0) ? -1 : NEXT(name) arguments; }
BY_HANDLE(fsync, (int handle), (handle))
BY_HANDLE(fdatasync, (int handle), (handle))
BY_HANDLE(ftruncate, (int handle, off_t size), (handle, size))
BY_HANDLE(ftruncate64, (int handle, off64_t size), (handle, size))

#define BY_PATH(name, parameters, arguments, path)                                                           \
    int name parameters { return fails(path, 0) ? -1 : NEXT(name) arguments; }
BY_PATH(rename, (const char *from, const char *to), (from, to), to)
BY_PATH(link, (const char *from, const char *to), (from, to), to)
BY_PATH(symlink, (const char *from, const char *to), (from, to), to)
BY_PATH(unlink, (const char *path), (path), path)
BY_PATH(rmdir, (const char *path), (path), path)
BY_PATH(mkdir, (const char *path, mode_t mode), (path, mode), path)

#define OPENING(name)                                                                                        \
    int name(const char *path, int flags, ...) {                                                             \
        va_list rest;                                                                                        \
        va_start(rest, flags);                                                                               \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;                                            \
        va_end(rest);                                                                                        \
        return (flags & (O_CREAT | O_TRUNC)) && fails(path, 0) ? -1 : NEXT(name)(path, flags, mode);         \
    }
OPENING(open)
OPENING(open64)

#define FREE_SPACE(name, type)                                                                               \
    int name(const char *path, struct type *found) {                                                         \
        int done = NEXT(name)(path, found);                                                                  \
        long bytes = done == 0 && lies_below(path, getenv("SHIM_FOLDER")) ? bytes_free() : LONG_MAX;         \
        if (bytes != LONG_MAX)                                                                               \
            found->f_bavail = bytes / found->f_frsize;                                                       \
        return done;                                                                                         \
    }
FREE_SPACE(statvfs, statvfs)
FREE_SPACE(statvfs64, statvfs64)
