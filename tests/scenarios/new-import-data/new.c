#define _GNU_SOURCE
#include "harness.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *fallback = "program";

KEPT const char *own_name(void)
{
    return program_invocation_short_name ? "program short" : fallback;
}

KEPT const char *unchanged(void)
{
    return fallback;
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "called %s", unchanged() ? own_name() : "");
}
