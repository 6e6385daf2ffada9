#include "harness.h"
#include <stdio.h>
#include <string.h>

static char last_error[64];

__attribute__((cold)) KEPT int report(char *place, int code)
{
    snprintf(place, sizeof last_error, "error %d", code);
    return -code;
}

KEPT int process(const char *text, char *place)
{
    int length = (int)strlen(text);
    if (__builtin_expect(length > 8, 0)) {
        strcpy(place, "long");
        return report(place, 1);
    }
    if (__builtin_expect(length == 0, 0)) {
        strcpy(place, "empty");
        report(place, 9);
        return report(place, 7);
    }
    return length * 3;
}

void answer(char *line, size_t size)
{
    char place[64];
    int result = process("four", place);
    process("much too long", place);
    snprintf(line, size, "paths %d %s", result, place);
}
