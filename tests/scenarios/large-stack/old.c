#include "harness.h"
#include <stdio.h>
#include <string.h>

static int base = 9;

KEPT int fill(int value)
{
    volatile char big[65536];
    int other[8192];
    memset((char *)big, value, sizeof big);
    for (int i = 0; i < 8192; i++)
        other[i] = big[i * 8];
    HIDE(value);
    return other[value & 8191] * 1000;
}

KEPT int unchanged(void)
{
    return base;
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "stack %d", fill(unchanged()));
}
