#include "harness.h"
#include <cstdio>
#include <stdexcept>

static volatile int limit = 5;

KEPT int parse(int value)
{
    if (value > limit)
        throw std::out_of_range("too big");
    return value;
}

KEPT int guarded(int value)
{
    try {
        return parse(value);
    } catch (const std::out_of_range &) {
        return limit + 3;
    }
}

KEPT int unchanged(int value)
{
    try {
        return parse(value);
    } catch (const std::exception &) {
        return limit + 2;
    }
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "caught %d %d", guarded(9), unchanged(9));
}
