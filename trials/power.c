/* Records every change that a process makes to the files below one folder, in order, for trials/power.py.
 *
 * Loaded with LD_PRELOAD. RECORD_FOLDER is the folder, an absolute path; RECORD_FILE, which lies elsewhere, takes the
 * record. Each change is made and recorded under one lock, so that the order of the record is the order of the changes.
 * A sync is recorded and not made: the record alone decides what a power cut leaves, and a real one takes long.
 *
 * A record is a header of 32 bytes and its payload:
 *   O open    file, flag 1 when it is new, 2 when it is a folder; payload: its path
 *   W write   file, at, flag 1 when the file is open with O_SYNC or O_DSYNC; payload: the bytes
 *   T size    file, at: the new size
 *   S sync    file, or folder
 *   U unlink  payload: path          R rename, L link   payload: two paths, each ended by NUL
 *   M         a step has returned, which the writer itself adds: see power.py
 * What is written through shared memory nobody can see.
 */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#undef open64
#undef openat64
#undef creat64
#undef pwrite64
#undef pwritev64
#undef ftruncate64
#undef truncate64
#undef fallocate64
#undef posix_fallocate64

#define FDS 65536
#define LOCKED(type, work) do { pthread_mutex_lock(&lock); type result = (work); int kept = errno; \
                                pthread_mutex_unlock(&lock); errno = kept; return result; } while (0)
/* The next definition of a function, which is libc's. */
#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); \
                              if (!real) real = (type (*)(__VA_ARGS__)) dlsym(RTLD_NEXT, name)

struct header { uint32_t kind, flag; uint64_t file, at, size; };
enum { NOT, PLAIN, SYNCING };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char watched[FDS];
static const char *folder;
static size_t folder_length;
static int record = -1;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("RECORD_FILE");
    folder = getenv("RECORD_FOLDER");
    if (!folder || !path) return;
    folder_length = strlen(folder);
    record = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (record < 0) { perror("RECORD_FILE"); abort(); }
}

static void add(char kind, uint32_t flag, uint64_t file, uint64_t at, const void *data, uint64_t size) {
    struct header header = {kind, flag, file, at, size};
    struct iovec both[2] = {{&header, sizeof header}, {(void *) data, size}};
    if (syscall(SYS_writev, record, both, size ? 2 : 1) != (long) (sizeof header + size)) {
        perror("the record is incomplete");
        abort();
    }
}

static uint64_t inode(int fd) {
    struct stat status;
    return fstat(fd, &status) ? 0 : status.st_ino;
}

/* Write the absolute path into `into`; tell whether it is to be recorded. Shared memory is not: it need not last. */
static int absolute(int at, const char *path, char *into) {
    char base[PATH_MAX] = "", link[64];
    if (record < 0 || !path) return 0;
    if (path[0] != '/') {
        ssize_t length = 0;
        if (at == AT_FDCWD) {
            if (!getcwd(base, sizeof base)) return 0;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", at);
            length = readlink(link, base, sizeof base - 1);
            if (length < 0) return 0;
            base[length] = 0;
        }
    }
    int length = snprintf(into, PATH_MAX, path[0] == '/' ? "%s%s" : "%s/%s", base, path);
    if (length <= 0 || length >= PATH_MAX) return 0;
    while (length > 1 && into[length - 1] == '/') into[--length] = 0;
    if (strncmp(into, folder, folder_length) || (into[folder_length] && into[folder_length] != '/')) return 0;
    return length < 4 || strcmp(into + length - 4, "-shm");
}

/* --- opening and closing --- */

static int opened(int at, const char *path, int flags, mode_t mode) {
    REAL(int, "openat", int, const char *, int, ...);
    char full[PATH_MAX];
    struct stat before, after;
    int is_ours = absolute(at, path, full);
    int is_new = is_ours && stat(full, &before);
    int fd = real(at, path, flags, mode);
    if (fd < 0 || fd >= FDS) return fd;
    watched[fd] = NOT;
    if (!is_ours || fstat(fd, &after)) return fd;
    watched[fd] = flags & (O_SYNC | O_DSYNC) ? SYNCING : PLAIN;
    add('O', S_ISDIR(after.st_mode) ? 2 : is_new, after.st_ino, 0, full, strlen(full));
    if (flags & O_TRUNC && !is_new && before.st_size) add('T', 0, after.st_ino, 0, "", 0);
    return fd;
}

#define MODE(flags) mode_t mode = 0; if (flags & (O_CREAT | O_TMPFILE)) { \
                    va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }

int open(const char *path, int flags, ...) { MODE(flags) LOCKED(int, opened(AT_FDCWD, path, flags, mode)); }
int open64(const char *path, int flags, ...) { MODE(flags) LOCKED(int, opened(AT_FDCWD, path, flags, mode)); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) LOCKED(int, opened(at, path, flags, mode)); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) LOCKED(int, opened(at, path, flags, mode)); }
int __open_2(const char *path, int flags) { LOCKED(int, opened(AT_FDCWD, path, flags, 0)); }
int __open64_2(const char *path, int flags) { LOCKED(int, opened(AT_FDCWD, path, flags, 0)); }
int __openat_2(int at, const char *path, int flags) { LOCKED(int, opened(at, path, flags, 0)); }
int __openat64_2(int at, const char *path, int flags) { LOCKED(int, opened(at, path, flags, 0)); }
int creat(const char *path, mode_t mode) {
    LOCKED(int, opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode));
}
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

static int closed(int fd) {
    REAL(int, "close", int);
    if (fd >= 0 && fd < FDS) watched[fd] = NOT;
    return real(fd);
}
int close(int fd) { LOCKED(int, closed(fd)); }

static int copied(int from, int to) {
    if (from >= 0 && from < FDS && to >= 0 && to < FDS) watched[to] = watched[from];
    return to;
}
int dup(int fd) { REAL(int, "dup", int); LOCKED(int, copied(fd, real(fd))); }
int dup2(int fd, int to) { REAL(int, "dup2", int, int); LOCKED(int, copied(fd, real(fd, to))); }
int dup3(int fd, int to, int flags) { REAL(int, "dup3", int, int, int); LOCKED(int, copied(fd, real(fd, to, flags))); }

/* --- changing --- */

static int is_watched(int fd) { return record >= 0 && fd >= 0 && fd < FDS && watched[fd] != NOT; }

static void wrote(int fd, const struct iovec *pieces, int count, off_t at, ssize_t done) {
    for (int i = 0; i < count && done > 0; i++) {
        size_t size = pieces[i].iov_len < (size_t) done ? pieces[i].iov_len : (size_t) done;
        if (size) add('W', watched[fd] == SYNCING, inode(fd), at, pieces[i].iov_base, size);
        at += size;
        done -= size;
    }
}

/* `at` is -1 for a write where the file stands. */
static ssize_t written(int fd, const struct iovec *pieces, int count, off_t at) {
    ssize_t done = at < 0 ? syscall(SYS_writev, fd, pieces, count) : syscall(SYS_pwritev, fd, pieces, count, at, 0L);
    if (done > 0 && is_watched(fd)) wrote(fd, pieces, count, at < 0 ? lseek(fd, 0, SEEK_CUR) - done : at, done);
    return done;
}

ssize_t write(int fd, const void *data, size_t size) {
    struct iovec one = {(void *) data, size};
    if (!is_watched(fd)) return syscall(SYS_write, fd, data, size);
    LOCKED(ssize_t, written(fd, &one, 1, -1));
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    struct iovec one = {(void *) data, size};
    LOCKED(ssize_t, written(fd, &one, 1, at));
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return pwrite(fd, data, size, at); }
ssize_t writev(int fd, const struct iovec *pieces, int count) {
    if (!is_watched(fd)) return syscall(SYS_writev, fd, pieces, count);
    LOCKED(ssize_t, written(fd, pieces, count, -1));
}
ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t at) {
    LOCKED(ssize_t, written(fd, pieces, count, at));
}
ssize_t pwritev64(int fd, const struct iovec *pieces, int count, off64_t at) { return pwritev(fd, pieces, count, at); }

static int resized(int fd, off_t size) {
    int failed = syscall(SYS_ftruncate, fd, size);
    if (!failed && is_watched(fd)) add('T', 0, inode(fd), size, "", 0);
    return failed;
}
int ftruncate(int fd, off_t size) { LOCKED(int, resized(fd, size)); }
int ftruncate64(int fd, off64_t size) { LOCKED(int, resized(fd, size)); }

static int resized_path(const char *path, off_t size) {
    char full[PATH_MAX];
    struct stat status;
    int failed = syscall(SYS_truncate, path, size);
    if (!failed && absolute(AT_FDCWD, path, full) && !stat(full, &status)) add('T', 0, status.st_ino, size, "", 0);
    return failed;
}
int truncate(const char *path, off_t size) { LOCKED(int, resized_path(path, size)); }
int truncate64(const char *path, off64_t size) { LOCKED(int, resized_path(path, size)); }

/* No file system must have these: whoever calls them writes instead, which is recorded. */
int fallocate(int fd, int mode, off_t at, off_t size) {
    if (is_watched(fd)) { errno = EOPNOTSUPP; return -1; }
    return syscall(SYS_fallocate, fd, mode, at, size);
}
int fallocate64(int fd, int mode, off64_t at, off64_t size) { return fallocate(fd, mode, at, size); }
int posix_fallocate(int fd, off_t at, off_t size) {
    return is_watched(fd) ? EOPNOTSUPP : syscall(SYS_fallocate, fd, 0, at, size) ? errno : 0;
}
int posix_fallocate64(int fd, off64_t at, off64_t size) { return posix_fallocate(fd, at, size); }
ssize_t sendfile(int to, int from, off_t *at, size_t size) {
    if (is_watched(to)) { errno = ENOSYS; return -1; }
    return syscall(SYS_sendfile, to, from, at, size);
}
ssize_t sendfile64(int to, int from, off64_t *at, size_t size) { return sendfile(to, from, at, size); }
ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *into, size_t size, unsigned flags) {
    if (is_watched(to)) { errno = ENOSYS; return -1; }
    return syscall(SYS_copy_file_range, from, at, to, into, size, flags);
}

/* --- syncing --- */

static int synced(int fd, long call) {
    if (!is_watched(fd)) return syscall(call, fd);
    add('S', 0, inode(fd), 0, "", 0);
    return 0;
}
int fsync(int fd) { LOCKED(int, synced(fd, SYS_fsync)); }
int fdatasync(int fd) { LOCKED(int, synced(fd, SYS_fdatasync)); }

/* --- names --- */

static int unlinked(int at, const char *path, int flags) {
    char full[PATH_MAX];
    int is_ours = absolute(at, path, full), failed = syscall(SYS_unlinkat, at, path, flags);
    if (!failed && is_ours && !(flags & AT_REMOVEDIR)) add('U', 0, 0, 0, full, strlen(full));
    return failed;
}
int unlink(const char *path) { LOCKED(int, unlinked(AT_FDCWD, path, 0)); }
int unlinkat(int at, const char *path, int flags) { LOCKED(int, unlinked(at, path, flags)); }
int remove(const char *path) {
    struct stat status;
    if (!lstat(path, &status) && S_ISDIR(status.st_mode)) return rmdir(path);
    return unlink(path);
}

static int named(char kind, int from, const char *old, int to, const char *new, int failed) {
    char both[2 * PATH_MAX], second[PATH_MAX];
    int ours = absolute(from, old, both) & absolute(to, new, second);
    if (failed || !ours) return failed;
    size_t first = strlen(both) + 1, last = strlen(second) + 1;
    memcpy(both + first, second, last);
    add(kind, 0, 0, 0, both, first + last);
    return 0;
}
int rename(const char *old, const char *new) {
    LOCKED(int, named('R', AT_FDCWD, old, AT_FDCWD, new, syscall(SYS_renameat2, AT_FDCWD, old, AT_FDCWD, new, 0)));
}
int renameat(int from, const char *old, int to, const char *new) {
    LOCKED(int, named('R', from, old, to, new, syscall(SYS_renameat2, from, old, to, new, 0)));
}
int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
    LOCKED(int, named('R', from, old, to, new, syscall(SYS_renameat2, from, old, to, new, flags)));
}
int link(const char *old, const char *new) {
    LOCKED(int, named('L', AT_FDCWD, old, AT_FDCWD, new, syscall(SYS_linkat, AT_FDCWD, old, AT_FDCWD, new, 0)));
}
int linkat(int from, const char *old, int to, const char *new, int flags) {
    LOCKED(int, named('L', from, old, to, new, syscall(SYS_linkat, from, old, to, new, flags)));
}
