#include "harness.h"
#include <stdio.h>
#include <string.h>

static volatile int rounds = 1;

KEPT int dig(int depth)
{
    char frame[4096];
    memset(frame, depth, sizeof frame);
    if (depth == 0)
        harness_wait();
    else
        dig(depth - 1);
    return frame[100];
}

KEPT int work(int blocking)
{
    if (blocking)
        dig(64);
    return rounds + 1;
}

void hold(void)
{
    work(1);
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "deep %d", work(0));
}
