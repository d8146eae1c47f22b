// Ends badly, in the way that it is given: divide (by zero), deep (a trap under functions whose names
// and lines a backtrace shows), abort. Built with debug information, as the other guests are not.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((noinline)) static int divide(volatile int a, volatile int b) {
    return a / b;
}

__attribute__((noinline)) static void innermost(void) {
    __builtin_trap();
}

__attribute__((noinline)) static void middle(void) {
    innermost();
    puts("not reached");
}

__attribute__((noinline)) static void outermost(void) {
    middle();
    puts("not reached");
}

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "";
    fprintf(stderr, "about to end by %s\n", how);
    if (!strcmp(how, "divide")) return divide(1, 0);
    if (!strcmp(how, "deep")) outermost();
    if (!strcmp(how, "abort")) abort();
    fputs("give one of: divide, deep, abort\n", stderr);
    return 2;
}
