#include "harness.h"
#include <stdio.h>
#include <string.h>

KEPT const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "base %s", base_name("/usr/lib/x"));
}
