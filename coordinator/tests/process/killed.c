/* Kills the process as it is about to change a file below $KILLED_IN for the $KILLED_AT-th time, from 0. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long changes;

static void changes_path(const char *path) {
    const char *in = getenv("KILLED_IN"), *at = getenv("KILLED_AT");
    if (!in || !at || strncmp(path, in, strlen(in)) != 0) return;
    if (atomic_fetch_add(&changes, 1) == atol(at)) raise(SIGKILL);
}

static void changes_fd(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return;
    path[length] = 0;
    changes_path(path);
}

#define REAL(type, name, ...) ((type)dlsym(RTLD_NEXT, #name))(__VA_ARGS__)

int mkdir(const char *path, mode_t mode) {
    changes_path(path);
    return REAL(int (*)(const char *, mode_t), mkdir, path, mode);
}
int rename(const char *from, const char *to) {
    changes_path(to);
    return REAL(int (*)(const char *, const char *), rename, from, to);
}
int unlink(const char *path) {
    changes_path(path);
    return REAL(int (*)(const char *), unlink, path);
}
int fsync(int fd) {
    changes_fd(fd);
    return REAL(int (*)(int), fsync, fd);
}
int fdatasync(int fd) {
    changes_fd(fd);
    return REAL(int (*)(int), fdatasync, fd);
}
int ftruncate64(int fd, off64_t length) {
    changes_fd(fd);
    return REAL(int (*)(int, off64_t), ftruncate64, fd, length);
}
ssize_t write(int fd, const void *bytes, size_t length) {
    changes_fd(fd);
    return REAL(ssize_t (*)(int, const void *, size_t), write, fd, bytes, length);
}
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    changes_fd(fd);
    return REAL(ssize_t (*)(int, const void *, size_t, off64_t), pwrite64, fd, bytes, length, at);
}
