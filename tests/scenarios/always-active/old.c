#include "harness.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static volatile int flag = 1;

KEPT void *spin_forever(void *context)
{
    while (flag) {
        usleep(1000);
        *(volatile int *)context += flag;
    }
    return context;
}

KEPT int work(void)
{
    return flag;
}

void setup(void)
{
    pthread_t thread;
    volatile int *turns = calloc(1, sizeof(int));
    pthread_create(&thread, NULL, spin_forever, (void *)turns);
    while (!*turns)
        usleep(1000);
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "active %d", work());
}
