/* One of many. argv: THREADS [LIBRARY...]. Ends with its standard input, after 300 s, or with its parent. */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

__attribute__((noipa)) int first(void) { return 1; }
__attribute__((noipa)) int second(void) { return 1; }
static void *other(void *u) {
    for (;;) usleep(20000 + 10 * first());
    return u;
}

int main(int argc, char **argv) {
    pthread_t t;
    char c;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(300);
    for (int i = 2; i < argc; i++) if (!dlopen(argv[i], RTLD_NOW)) return 1;
    for (int i = 1; i < atoi(argv[1]); i++) if (pthread_create(&t, NULL, other, NULL)) return 1;
    printf("ready\n");
    fflush(stdout);
    while (read(0, &c, 1) == 1) {}
    return second() - 1;
}
