#include "harness.h"
#include <stdio.h>

KEPT int walk(int depth)
{
    if (depth == 0)
        return 0;
    return depth + 1 + walk(depth - 1);
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "walked %d", walk(10));
}
