#include "harness.h"
#include <stdio.h>

KEPT int walk(int depth, int blocking)
{
    if (depth == 0) {
        if (blocking)
            harness_wait();
        return 0;
    }
    return depth + 1 + walk(depth - 1, blocking);
}

void hold(void)
{
    walk(10, 1);
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "walked %d", walk(10, 0));
}
