#include "harness.h"
#include <stdio.h>
#include <string.h>

static volatile int base = 30;
static char kept[16];

KEPT const char *word(int index)
{
    return index == 2 ? "zwei" : "other";
}

KEPT int dispatch(int operation)
{
    switch (operation) {
    case 0: return base;
    case 1: base = 30; return base + 1;
    case 2: return base * 2;
    case 3: return base ^ 5;
    case 4: return base - 3;
    case 5: return base + 1;
    default: return -1;
    }
}

KEPT int length(int (*function)(int))
{
    strcpy(kept, "seven l");
    return function == dispatch ? (int)strlen(kept) : 0;
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "absolute %s %d %d", word(2), dispatch(5), length(dispatch));
}
