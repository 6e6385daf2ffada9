#include "harness.h"
#include <stdarg.h>
#include <stdio.h>

KEPT int join(char *line, size_t size, const char *format, ...)
{
    va_list list;
    char text[100];
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    return snprintf(line, size, "args %s tail", text);
}

void answer(char *line, size_t size)
{
    join(line, size, "%d %s %.1f", 6, "and", 2.5);
}
