#include "harness.h"
#include <stdio.h>

#ifdef __clang__
#define PACKED __attribute__((minsize))
#else
#define PACKED
#endif

PACKED KEPT int before(void)
{
    return 0;
}

PACKED KEPT int flags(void)
{
    return 2;
}

PACKED KEPT int after(void)
{
    return 1;
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "short %d %d %d", before(), flags(), after());
}
