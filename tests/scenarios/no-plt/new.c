#include "harness.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

KEPT int parse(const char *text)
{
    return (int)strtol(text, NULL, 16);
}

KEPT int length(const char *text)
{
    return (int)(strlen(text) + strtol("0", NULL, 8));
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "number %d %d", parse("12"), length("abc"));
}
