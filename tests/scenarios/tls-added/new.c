#include "harness.h"
#include <stdio.h>

static __thread int depth = 5;
static __thread int added = 4;

KEPT int enter(void)
{
    return depth + added;
}

KEPT void reset(void)
{
    depth = 5;
    int four = 4;
    HIDE(four);
    added = four;
}

void answer(char *line, size_t size)
{
    reset();
    snprintf(line, size, "thread %d", enter());
}
