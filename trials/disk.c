/* A disk that fails when it is told to: preloaded by disk.py into the process that is tried, and by network.py into a server.
 *
 * Counts the calls of each kind on the files of one folder, and makes one of them fail, or all from that one on until
 * it is released. A short one does half of its work first. Fails before anything is done, as a disk without room does.
 * What is synced stays where it is, to save time: cutting the power is not what is tried here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

enum { WRITE, SYNC, TRUNCATE, OPEN, MAP, UNLINK, RENAME, READ, LOCK, KINDS };  /* as KINDS in disk.py */
#define HANDLES 65536

static char folder[4096];
static size_t folder_length;
static unsigned char ours[HANDLES];  /* is the handle one of a file in the folder? */
static long counts[KINDS], hits;
static int plan_kind = -1, plan_error, plan_lasts, plan_short;
static long plan_number;

/* --- what disk.py calls ------------------------------------------------------------------------------------------ */

void disk_watch(const char *path) {
    strncpy(folder, path, sizeof folder - 1);
    folder_length = strlen(folder);
    memset(counts, 0, sizeof counts);
    hits = 0;
}

/* The calls are counted from here on. */
void disk_fail(int kind, long number, int error, int lasts, int is_short) {
    memset(counts, 0, sizeof counts);
    plan_number = number, plan_error = error, plan_lasts = lasts, plan_short = is_short, plan_kind = kind;
}

void disk_release(void) { plan_kind = -1; }

long disk_count(int kind) { return counts[kind]; }

long disk_hits(void) { return hits; }

/* A program that cannot call all this is told by its environment: nothing can be written in DISK_FOLDER, for want of room, as
 * long as the file DISK_FULL is there. */
static const char *full;

__attribute__((constructor)) static void from_environment(void) {
    const char *path = getenv("DISK_FOLDER");
    if (path) disk_watch(path), full = getenv("DISK_FULL");
}

/* --- deciding ---------------------------------------------------------------------------------------------------- */

static int is_inside(const char *path) {
    return folder_length && !strncmp(path, folder, folder_length) && path[folder_length] == '/';
}

static int is_ours(int fd) { return fd >= 0 && fd < HANDLES && ours[fd]; }

/* Count a call. Returns whether it is to fail, with errno set. */
static int fails(int kind) {
    long number = __atomic_add_fetch(&counts[kind], 1, __ATOMIC_SEQ_CST);
    if (kind == WRITE && full && !access(full, F_OK)) {
        errno = ENOSPC;
        return 1;
    }
    if (kind != plan_kind || number < plan_number || (number > plan_number && !plan_lasts)) return 0;
    __atomic_add_fetch(&hits, 1, __ATOMIC_SEQ_CST);
    errno = plan_error;
    return 1;
}

/* As `fails`, of a call that may do a part of its work: then *size is less, and it does not fail. */
static int fails_or_less(int kind, size_t *size) {
    if (!fails(kind)) return 0;
    if (!plan_short || counts[kind] > plan_number || *size < 2) return 1;
    *size /= 2;
    return 0;
}

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

#define NEXT(type, name, parameters) \
    static type (*real) parameters; \
    if (!real) real = (type (*) parameters) next(#name)

/* --- the calls --------------------------------------------------------------------------------------------------- */

static int opened(int fd, const char *path) {
    if (fd >= 0 && fd < HANDLES) ours[fd] = (unsigned char)is_inside(path);
    return fd;
}

#define OPENS(name) \
    int name(const char *path, int flags, ...) { \
        NEXT(int, name, (const char *, int, ...)); \
        va_list rest; \
        va_start(rest, flags); \
        int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0; \
        va_end(rest); \
        if (is_inside(path) && fails(OPEN)) return -1; \
        return opened(real(path, flags, mode), path); \
    }
OPENS(open)
OPENS(open64)

int close(int fd) {
    NEXT(int, close, (int));
    if (is_ours(fd)) ours[fd] = 0;
    return real(fd);
}

#define MOVES(name, kind, type) \
    ssize_t name(int fd, type buffer, size_t size) { \
        NEXT(ssize_t, name, (int, type, size_t)); \
        if (is_ours(fd) && fails_or_less(kind, &size)) return -1; \
        return real(fd, buffer, size); \
    }
MOVES(write, WRITE, const void *)
MOVES(read, READ, void *)

#define MOVES_AT(name, kind, type, offset_type) \
    ssize_t name(int fd, type buffer, size_t size, offset_type offset) { \
        NEXT(ssize_t, name, (int, type, size_t, offset_type)); \
        if (is_ours(fd) && fails_or_less(kind, &size)) return -1; \
        return real(fd, buffer, size, offset); \
    }
MOVES_AT(pwrite, WRITE, const void *, off_t)
MOVES_AT(pwrite64, WRITE, const void *, off64_t)
MOVES_AT(pread, READ, void *, off_t)
MOVES_AT(pread64, READ, void *, off64_t)

#define SYNCS(name) \
    int name(int fd) { \
        NEXT(int, name, (int)); \
        if (!is_ours(fd)) return real(fd); \
        return fails(SYNC) ? -1 : 0; \
    }
SYNCS(fsync)
SYNCS(fdatasync)

#define TRUNCATES(name, offset_type) \
    int name(int fd, offset_type size) { \
        NEXT(int, name, (int, offset_type)); \
        if (is_ours(fd) && fails(TRUNCATE)) return -1; \
        return real(fd, size); \
    }
TRUNCATES(ftruncate, off_t)
TRUNCATES(ftruncate64, off64_t)

#define MAPS(name, offset_type) \
    void *name(void *address, size_t size, int protection, int flags, int fd, offset_type offset) { \
        NEXT(void *, name, (void *, size_t, int, int, int, offset_type)); \
        if (is_ours(fd) && fails(MAP)) return MAP_FAILED; \
        return real(address, size, protection, flags, fd, offset); \
    }
MAPS(mmap, off_t)
MAPS(mmap64, off64_t)

int unlink(const char *path) {
    NEXT(int, unlink, (const char *));
    if (is_inside(path) && fails(UNLINK)) return -1;
    return real(path);
}

int rename(const char *from, const char *to) {
    NEXT(int, rename, (const char *, const char *));
    if (is_inside(to) && fails(RENAME)) return -1;
    return real(from, to);
}

/* Only taking a lock fails: giving one back does not on any disk. */
static int takes_lock(int command, void *argument) {
    int is_lock = command == F_SETLK || command == F_SETLKW;
#ifdef F_OFD_SETLK
    is_lock |= command == F_OFD_SETLK;
#endif
    return is_lock && ((struct flock *)argument)->l_type != F_UNLCK;
}

#define CONTROLS(name) \
    int name(int fd, int command, ...) { \
        NEXT(int, name, (int, int, ...)); \
        va_list rest; \
        va_start(rest, command); \
        void *argument = va_arg(rest, void *); \
        va_end(rest); \
        if (is_ours(fd) && takes_lock(command, argument) && fails(LOCK)) return -1; \
        return real(fd, command, argument); \
    }
CONTROLS(fcntl)
CONTROLS(fcntl64)
