/* Says how long it ran its old code: microseconds from the beginning of main to the first new answer, and how often it
   was answered the old way before. argv[1]: microseconds of rest between two questions. Gives up after 30 s. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

__attribute__((noipa)) int answer(void) { return 1; }

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

int main(int argc, char **argv) {
    long long began = now();
    long old = 0;
    int rest = argc > 1 ? atoi(argv[1]) : 100;
    alarm(30);
    while (answer() == 1) {
        old++;
        usleep(rest);
    }
    printf("%lld %ld\n", now() - began, old);
    return 0;
}
