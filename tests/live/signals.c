/* Waits for SIGUSR1, without a race: it is blocked but inside the call. argv: which. Says when it has come. */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <unistd.h>

static volatile sig_atomic_t got;
static void handler(int number) { got = number; }

int main(int count, char **argv) {
    const char *call = argv[count - 1];
    struct sigaction action = {.sa_handler = handler};
    struct epoll_event event;
    sigset_t blocked, before;
    int fd = epoll_create1(0);
    alarm(300);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    sigaction(SIGUSR1, &action, NULL);
    printf("ready\n");
    fflush(stdout);
    while (!got) {
        if (!strcmp(call, "sigsuspend")) sigsuspend(&before);
        if (!strcmp(call, "ppoll")) ppoll(NULL, 0, NULL, &before);
        if (!strcmp(call, "pselect")) pselect(0, NULL, NULL, NULL, NULL, &before);
        if (!strcmp(call, "epoll_pwait")) epoll_pwait(fd, &event, 1, -1, &before);
    }
    printf("woken\n");
    fflush(stdout);
    pause();
}
