#include "harness.h"
#include <stdio.h>
#include <stdlib.h>

static int base;
static const char *unit;

KEPT static int offset(int x)
{
    return x + base + (unit[0] == 'm');
}

void setup(void)
{
    base = 40;
    unit = getenv("HARNESS_YARD") ? "yard" : "metre";
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "offset %d", offset(2));
}
