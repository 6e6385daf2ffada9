#include "harness.h"
#include <stdio.h>

typedef int (*handler)(int);

static volatile int base = 4;
static handler stored;

KEPT int on_event(int value)
{
    return value + base + 1;
}

KEPT int is_handler(handler candidate)
{
    return candidate == on_event;
}

KEPT handler current(void)
{
    return on_event;
}

KEPT int checked(handler candidate)
{
    return candidate == on_event && candidate(0) == base + 1;
}

void setup(void)
{
    stored = on_event;
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "same %d %d %d value %d", is_handler(stored), checked(stored), current() == stored, stored(1));
}
