#include <string.h>

static int factor = 4;

static int scale(int value)
{
    return value * factor;
}

int compute(int value)
{
    return scale(value);
}

int again(int value)
{
    return scale(value) + compute(value) + (int)strlen("again");
}

const char *version(void)
{
    return "1";
}
