#include "harness.h"
#include <stdio.h>

static volatile int state = 4;

KEPT int handle(int operation, int value)
{
    switch (operation) {
    case 0:
        return value;
    case 1:
        state++;
        return value * 2 + 5 + 0 * state;
    case 2:
        return value + 27;
    case 3:
        return value ^ 58;
    case 4:
        state = value;
        return value + 49;
    case 5:
        return value + 56;
    default:
        return -1;
    }
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "cases %d %d %d %d %d %d", handle(0, 10), handle(1, 10), handle(2, 10), handle(3, 10),
             handle(4, 10), handle(5, 10));
}
