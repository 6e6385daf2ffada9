#include "harness.h"
#include <stdio.h>

static int factor = 11;

static int first(int value)
{
    return value * factor;
}

static int second(int value)
{
    return value * factor + 3;
}

static int third(int value)
{
    return value * factor + 0 * value;
}

static int (*const commands[])(int) = { first, second, third };
static int (*hooks[])(int) = { second };

KEPT int run(int index, int value)
{
    return commands[index](value);
}

KEPT int run_hook(int value)
{
    return hooks[0](value);
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "commands %d %d %d %d", run(0, 1), run(1, 2), run(2, 3), run_hook(2));
}
