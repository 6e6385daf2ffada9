#include "harness.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

static volatile int interrupted;
static volatile int one = 1;

static void *wait_epoll(void *context)
{
    struct epoll_event event;
    int set = epoll_create1(0);
    for (;;)
        if (epoll_wait(set, &event, 1, -1) < 0 && errno == EINTR)
            interrupted++;
    return context;
}

static void *wait_poll(void *context)
{
    int ends[2];
    struct pollfd ready = { .events = POLLIN };
    if (pipe(ends) != 0)
        return context;
    ready.fd = ends[0];
    for (;;)
        if (poll(&ready, 1, 30000) < 0 && errno == EINTR)
            interrupted++;
    return context;
}

void setup(void)
{
    pthread_t threads[2];
    pthread_create(&threads[0], NULL, wait_epoll, NULL);
    pthread_create(&threads[1], NULL, wait_poll, NULL);
    usleep(20000);
}

KEPT int version(void)
{
    return one;
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "waiting %d interrupted %d", version(), interrupted);
}
