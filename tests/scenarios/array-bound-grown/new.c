#include "harness.h"
#include <stdio.h>

enum { SLOTS = 16 };

static int guard_before[4] = { 77, 77, 77, 77 };
static int slots[SLOTS];
static int guards[4];

KEPT int fill(int value)
{
    int count = 0;
    for (int i = 0; i < SLOTS; i++, count++)
        slots[i] = value + i;
    return count;
}

KEPT int guard(void)
{
    return guards[0] & guards[1] & guards[2] & guards[3] & guard_before[3];
}

KEPT int slot(int index)
{
    return slots[index];
}

void setup(void)
{
    for (int i = 0; i < 4; i++)
        guards[i] = guard_before[i];
}

void answer(char *line, size_t size)
{
    int count = fill(100);
    snprintf(line, size, "slots %d kept %d", count + slot(0) - 100, guard());
}
