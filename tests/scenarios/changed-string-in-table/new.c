#include "harness.h"
#include <stdio.h>

static const char *const levels[] = { "debug", "caution", "error" };

KEPT const char *level_name(int level)
{
    return levels[level];
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "levels %s %s %s", level_name(0), level_name(1), level_name(2));
}
