/* What a power loss leaves at worst: of each file what it was when it was synced last, and no file whose
 * name was not synced with its directory. After each fsync and fdatasync of a file below $SYNCED_OF its
 * present content is copied to the same place below $SYNCED_TO; after that of a directory the names
 * in it are noted beside that place. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void make_parents(char *path) {
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(path, 0700);
        *slash = '/';
    }
}

static void note(int fd) {
    const char *of = getenv("SYNCED_OF"), *to = getenv("SYNCED_TO");
    char link[64], path[4096], copy[8192], unfinished[8256];
    if (!of || !to) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return;
    path[length] = 0;
    size_t prefix = strlen(of);
    if (strncmp(path, of, prefix) != 0) return;
    snprintf(copy, sizeof copy, "%s%s", to, path + prefix);
    make_parents(copy);
    struct stat stat;
    if (fstat(fd, &stat) != 0) abort();
    if (S_ISDIR(stat.st_mode)) {
        snprintf(unfinished, sizeof unfinished, "%s.names", copy);
        FILE *names = fopen(unfinished, "w");
        DIR *directory = opendir(path);
        if (!names || !directory) abort();
        for (struct dirent *entry; (entry = readdir(directory));) fprintf(names, "%s\n", entry->d_name);
        closedir(directory);
        fclose(names);
        return;
    }
    /* Renamed into its place, so that a kill leaves the copy of before. */
    snprintf(unfinished, sizeof unfinished, "%s.copying", copy);
    int from = open(path, O_RDONLY);
    if (from < 0) return; /* It was removed. */
    int out = open(unfinished, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (out < 0) abort();
    static char buffer[1 << 16];
    for (ssize_t n; (n = read(from, buffer, sizeof buffer)) > 0;)
        if (write(out, buffer, n) != n) abort();
    close(from);
    close(out);
    if (rename(unfinished, copy) != 0) abort();
}

static int forward(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int result = real(fd);
    if (result == 0) note(fd);
    return result;
}

int fsync(int fd) { return forward("fsync", fd); }
int fdatasync(int fd) { return forward("fdatasync", fd); }
