#include "harness.h"
#include <stdio.h>

static int base = 5;

KEPT int user(int value)
{
    return 2 * value;
}

KEPT int unchanged(void)
{
    return base;
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "helper %d %d", user(7), unchanged());
}
