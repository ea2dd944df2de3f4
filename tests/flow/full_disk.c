/* A file system that is full at the n-th write, for tests/flow/test_full_disk.py.
 *
 * Loaded before the C library. It counts what may need room on the disk below the folder that
 * $FULL_DISK_BELOW names: files made or opened for writing, folders made, bytes written, files
 * made longer, flushed or renamed. From the n-th on (or at the n-th alone) it answers "no space
 * left on device", as the system does. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static long count, at = -1;
static int and_after;
static long by_kind[8];
enum { OPEN, WRITE, FSYNC, RENAME, MKDIR, LONGER };

/* Set from Python: fail at the n-th from here (0: at none). */
void full_disk_arm(long n, int after) { count = 0; at = n; and_after = after; memset(by_kind, 0, sizeof by_kind); }
void full_disk_disarm(void) { at = -1; }
long full_disk_count(void) { return count; }
long full_disk_count_of(int kind) { return by_kind[kind]; }

static int below(const char *path) {
    const char *root = getenv("FULL_DISK_BELOW");
    char whole[PATH_MAX], here[PATH_MAX];
    if (at < 0 || root == NULL || path == NULL) return 0;
    if (path[0] != '/') {
        if (getcwd(here, sizeof here) == NULL) return 0;
        if ((size_t)snprintf(whole, sizeof whole, "%s/%s", here, path) >= sizeof whole) return 0;
        path = whole;
    }
    return strncmp(path, root, strlen(root)) == 0;
}

static int fd_below(int fd) {
    char link[64], path[PATH_MAX];
    ssize_t n;
    if (at < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return below(path);
}

static int full(int kind) {
    long n = __sync_add_and_fetch(&count, 1);
    __sync_add_and_fetch(&by_kind[kind], 1);
    if (at > 0 && (n == at || (and_after && n > at))) {
        errno = ENOSPC;
        return 1;
    }
    return 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRITES (O_WRONLY | O_RDWR | O_CREAT)

int open(const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest);
    if ((flags & WRITES) && below(path) && full(OPEN)) return -1;
    return REAL(open)(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest);
    if ((flags & WRITES) && below(path) && full(OPEN)) return -1;
    return REAL(open64)(path, flags, mode);
}
int openat(int dir, const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest);
    if ((flags & WRITES) && below(path) && full(OPEN)) return -1;
    return REAL(openat)(dir, path, flags, mode);
}
ssize_t write(int fd, const void *data, size_t n) {
    if (fd_below(fd) && full(WRITE)) return -1;
    return REAL(write)(fd, data, n);
}
ssize_t writev(int fd, const struct iovec *parts, int n) {
    if (fd_below(fd) && full(WRITE)) return -1;
    return REAL(writev)(fd, parts, n);
}
ssize_t pwrite(int fd, const void *data, size_t n, off_t where) {
    if (fd_below(fd) && full(WRITE)) return -1;
    return REAL(pwrite)(fd, data, n, where);
}
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t where) {
    if (fd_below(fd) && full(WRITE)) return -1;
    return REAL(pwrite64)(fd, data, n, where);
}
int fsync(int fd) {
    if (fd_below(fd) && full(FSYNC)) return -1;
    return REAL(fsync)(fd);
}
int fdatasync(int fd) {
    if (fd_below(fd) && full(FSYNC)) return -1;
    return REAL(fdatasync)(fd);
}
int ftruncate(int fd, off_t n) {
    if (fd_below(fd) && full(LONGER)) return -1;
    return REAL(ftruncate)(fd, n);
}
int ftruncate64(int fd, off64_t n) {
    if (fd_below(fd) && full(LONGER)) return -1;
    return REAL(ftruncate64)(fd, n);
}
int posix_fallocate(int fd, off_t where, off_t n) {
    if (fd_below(fd) && full(LONGER)) return ENOSPC;
    return REAL(posix_fallocate)(fd, where, n);
}
int posix_fallocate64(int fd, off64_t where, off64_t n) {
    if (fd_below(fd) && full(LONGER)) return ENOSPC;
    return REAL(posix_fallocate64)(fd, where, n);
}
int rename(const char *from, const char *to) {
    if (below(to) && full(RENAME)) return -1;
    return REAL(rename)(from, to);
}
int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    if (below(to) && full(RENAME)) return -1;
    return REAL(renameat)(from_dir, from, to_dir, to);
}
int mkdir(const char *path, mode_t mode) {
    if (below(path) && full(MKDIR)) return -1;
    return REAL(mkdir)(path, mode);
}
