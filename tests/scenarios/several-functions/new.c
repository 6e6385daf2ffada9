#include "harness.h"
#include <stdio.h>

static volatile int one = 1;

#define EXTRA 10 * one

#define PART(n, rest)                          \
    KEPT int part##n(int value)                \
    {                                          \
        return value * n * one + rest + EXTRA; \
    }

PART(1, 0)
PART(2, part1(value))
PART(3, part2(value))
PART(4, part3(value))
PART(5, part4(value))
PART(6, part5(value))
PART(7, part6(value))
PART(8, part7(value))
PART(9, part8(value))
PART(10, part9(value))

KEPT int unchanged(void)
{
    return one;
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "several %d %d", part10(1), unchanged());
}
