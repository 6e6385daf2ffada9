#include "harness.h"
#include <stdio.h>

static int limit = 100;

static KEPT int check(int value)
{
    HIDE(value);
    return value < limit ? value : limit;
}

KEPT int first_user(int value)
{
    return check(value) + 0;
}

KEPT int second_user(int value)
{
    return check(value);
}

KEPT int third_user(int value)
{
    return check(value) & 0xff;
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "checks %d %d %d", first_user(11), second_user(11), third_user(11));
}
