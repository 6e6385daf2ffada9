#include "harness.h"
#include <stdio.h>

static volatile int factor = 2;

KEPT int third(int value)
{
    return value * factor;
}

KEPT int second(int value)
{
    return third(value + 2);
}

KEPT int first(int value)
{
    return second(value * 2);
}

KEPT int entry(int value)
{
    return first(value);
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "chain %d", entry(5));
}
