#include "harness.h"
#include <stdio.h>

static volatile int base = 4;

static int first(int value)
{
    return value + base;
}

static int second(int value)
{
    return value + base + 2;
}

static int (*const table[])(int) = { first, second };

KEPT int call(int index, int value)
{
    return table[index](value);
}

KEPT int choose(int value)
{
    switch (value) {
    case 0: return base;
    case 1: return base * 2;
    case 2: return base * 5 + 1;
    case 3: base = 4; return base + 7;
    case 4: return base ^ 3;
    default: return 0;
    }
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "guarded %d %d %d", call(0, 1), call(1, 1), choose(2));
}
