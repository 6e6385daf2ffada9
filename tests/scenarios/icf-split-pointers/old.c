#include "harness.h"
#include <stdio.h>

static int base = 5;

static int check_a(int value)
{
    return value * base + 1;
}

static int check_b(int value)
{
    return value * base + 1;
}

static int (*checks[])(int) = { check_a, check_b };

KEPT int ask_one(int index, int value)
{
    return checks[index](value);
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "parts %d %d", ask_one(0, 5), ask_one(1, 5));
}
