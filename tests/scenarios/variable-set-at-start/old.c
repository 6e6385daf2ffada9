#include "harness.h"
#include <stdio.h>

static int base;

KEPT static int offset(int x)
{
    return x + base;
}

void setup(void)
{
    base = 40;
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "offset %d", offset(2));
}
