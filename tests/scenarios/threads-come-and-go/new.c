#include "harness.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

static volatile int base = 4;
static atomic_int unexpected;

KEPT int work(void)
{
    return base + 1;
}

static void *fleeting(void *context)
{
    int result = work();
    if (result != 4 && result != 5)
        atomic_store(&unexpected, result);
    return context;
}

static void *keep_starting(void *context)
{
    for (;;) {
        pthread_t threads[3];
        for (int i = 0; i < 3; i++)
            if (pthread_create(&threads[i], NULL, fleeting, NULL) != 0)
                atomic_store(&unexpected, -1);
        for (int i = 0; i < 3; i++)
            pthread_join(threads[i], NULL);
    }
    return context;
}

void setup(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, keep_starting, NULL);
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "fleeting %d ok %d", work(), atomic_load(&unexpected) == 0);
}
