#include "harness.h"
#include <stdio.h>

static volatile int rounds = 1;

KEPT int work(int blocking)
{
    if (blocking)
        harness_wait();
    return rounds + 1;
}

void hold(void)
{
    work(1);
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "waits %d", work(0));
}
