#include "harness.h"
#include <stdio.h>
#include <string.h>

__attribute__((cold)) KEPT int report(char *place, int code)
{
    snprintf(place, 64, "error %d", code);
    return -code;
}

__attribute__((cold)) KEPT int note(char *place, int code)
{
    snprintf(place, 64, "empty %d", code);
    return code;
}

KEPT int process(const char *text, char *place)
{
    int length = (int)strlen(text);
    if (__builtin_expect(length > 8, 0)) {
        note(place, 3);
        return report(place, length - 8);
    }
    if (__builtin_expect(length == 0, 0)) {
        report(place, 9);
        return note(place, 7);
    }
    return length * 3;
}

void answer(char *line, size_t size)
{
    char error[64], empty[64];
    int result = process("four", error);
    process("much too long", error);
    process("", empty);
    snprintf(line, size, "paths %d %s %s", result, error, empty);
}
