// Prints what a guest sees: arguments, environment, terminals, working directory, the root, and each
// path that it is given. The guests inspect in Rust and Go print the same lines.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

static void quote(const char *text) {
    putchar('"');
    for (; *text; text++) switch (*text) {
        case '"': fputs("\\\"", stdout); break;
        case '\\': fputs("\\\\", stdout); break;
        case '\n': fputs("\\n", stdout); break;
        case '\t': fputs("\\t", stdout); break;
        default: putchar(*text);
    }
    putchar('"');
}

static void list(char **items, size_t n) {
    putchar('[');
    for (size_t i = 0; i < n; i++) {
        if (i) fputs(", ", stdout);
        quote(items[i]);
    }
    putchar(']');
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sorted(const char *title, char **items, size_t n) {
    qsort(items, n, sizeof *items, by_name);
    fputs(title, stdout);
    list(items, n);
}

// The number of an error by its name in POSIX; WASI's numbers differ from Linux's.
static void error(int number) {
    static const struct { int number; const char *name; } names[] = {
        {EACCES, "EACCES"}, {EBADF, "EBADF"}, {EEXIST, "EEXIST"}, {EINVAL, "EINVAL"},
        {EISDIR, "EISDIR"}, {ELOOP, "ELOOP"}, {ENAMETOOLONG, "ENAMETOOLONG"}, {ENOENT, "ENOENT"},
        {ENOSPC, "ENOSPC"}, {ENOTDIR, "ENOTDIR"}, {ENOTEMPTY, "ENOTEMPTY"}, {ENOTSUP, "ENOTSUP"},
        {EPERM, "EPERM"}, {EROFS, "EROFS"}, {EXDEV, "EXDEV"}, {ENOTCAPABLE, "ENOTCAPABLE"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].number == number) {
            printf("error %s", names[i].name);
            return;
        }
    printf("error errno %d", number);
}

static void directory(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) {
        error(errno);
        return;
    }
    char **names = NULL;
    size_t n = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        names = realloc(names, (n + 1) * sizeof *names);
        if (!names || !(names[n++] = strdup(entry->d_name))) abort();
    }
    closedir(dir);
    sorted("", names, n);
}

static void content(const char *path) {
    struct stat info;
    if (!stat(path, &info) && S_ISDIR(info.st_mode)) {
        directory(path);
        return;
    }
    FILE *file = fopen(path, "r");
    if (!file) {
        error(errno);
        return;
    }
    char text[4096];
    size_t n = fread(text, 1, sizeof text - 1, file);
    if (ferror(file)) error(errno);
    else {
        text[n] = 0;
        quote(text);
    }
    fclose(file);
}

static void describe(const char *path) {
    char target[4096];
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n >= 0) {
        target[n] = 0;
        fputs("link to ", stdout);
        quote(target);
        fputs(", ", stdout);
    }
    content(path);
}

static const char *terminal(int fd) { return isatty(fd) ? "true" : "false"; }

int main(int argc, char **argv) {
    size_t variables = 0;
    while (environ[variables]) variables++;
    fputs("args: ", stdout);
    list(argv, argc);
    sorted("\nenv: ", environ, variables);
    printf("\ntty: %s %s %s\n", terminal(0), terminal(1), terminal(2));
    char cwd[4096];
    if (getcwd(cwd, sizeof cwd)) printf("cwd: %s\n", cwd);
    else printf("cwd: error %d\n", errno);
    fputs("/: ", stdout);
    content("/");
    putchar('\n');
    for (int i = 1; i < argc; i++) {
        printf("%s: ", argv[i]);
        describe(argv[i]);
        putchar('\n');
    }
    return 0;
}
