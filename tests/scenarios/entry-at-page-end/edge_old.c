#include "harness.h"

/* Puts the end of a page behind the first two bytes of what follows. */
__asm__(".text\n"
        ".balign 4096\n"
        ".skip 4094, 0x90\n");

extern int base;

#ifdef __clang__
__attribute__((minsize))
#endif
KEPT int at_the_edge(int value)
{
    return value * 3 + base;
}
