#include "harness.h"
#include <stdio.h>
#include <stdlib.h>

static int steps_taken = 1;

KEPT int run(const unsigned char *program, int value)
{
    static const void *const labels[] = { &&increment, &&square, &&stop };
    goto *labels[*program++];
increment:
    value += steps_taken;
    goto *labels[*program++];
square:
    value *= value;
    goto *labels[*program++];
stop:
    return value;
}

KEPT int count_steps(const unsigned char *program)
{
    int count = 0;
    while (*program++ != 2)
        count++;
    return count - steps_taken;
}

void answer(char *line, size_t size)
{
    static const unsigned char program[] = { 1, 0, 2 };
    snprintf(line, size, "ran %d %d", run(program, 4), count_steps(program));
}
