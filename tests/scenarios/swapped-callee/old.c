#include "harness.h"
#include <stdio.h>

KEPT int double_it(int value)
{
    HIDE(value);
    return value * 2;
}

KEPT int square_minus_one(int value)
{
    HIDE(value);
    return value * value - 1;
}

KEPT int select_one(int value)
{
    return double_it(value) + 0 * value;
}

KEPT int other_user(int value)
{
    return double_it(value) - 1;
}

KEPT int another_user(int value)
{
    return square_minus_one(value);
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "callee %d %d %d", select_one(4), other_user(4), another_user(4));
}
