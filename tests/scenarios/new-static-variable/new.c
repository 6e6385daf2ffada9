#include "harness.h"
#include <stdio.h>

static int start = 7;

static int calls;

KEPT int next(void)
{
    return start + calls++;
}

KEPT int first(void)
{
    return start;
}

void answer(char *line, size_t size)
{
    int before = next() - first();
    snprintf(line, size, "step %d", next() - first() - before);
}
