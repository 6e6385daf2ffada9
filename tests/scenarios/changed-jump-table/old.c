#include "harness.h"
#include <stdio.h>

static volatile int state;

KEPT int dispatch(int operation, int value)
{
    switch (operation) {
    case 0:
        state = 1;
        return value + 100;
    case 1:
        state = value;
        return value + 200;
    case 2:
        state += 3;
        return value + 300;
    case 3:
        state ^= 4;
        return value + 400;
    case 4:
        state -= value;
        return value + 500;
    case 5:
        state |= 6;
        return value + 600;
    case 6:
        state = ~value;
        return value + 700;
    default:
        return -1;
    }
}

void answer(char *line, size_t size)
{
    int results[7];
    for (int i = 0; i < 7; i++)
        results[i] = dispatch(i, i + 1);
    snprintf(line, size, "switch %d %d %d %d %d %d %d", results[0], results[1], results[2], results[3], results[4],
             results[5], results[6]);
}
