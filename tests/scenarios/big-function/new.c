#include "harness.h"
#include <stdio.h>

static unsigned keys[4] = { 1, 20, 300, 4000 };

#define STEP(n) value = (value ^ (n)*2654435761u) + (value >> ((n) % 13 + 1)) + keys[(n) % 4]; HIDE(value);
#define STEPS4(n) STEP(n) STEP(n + 1) STEP(n + 2) STEP(n + 3)
#define STEPS16(n) STEPS4(n) STEPS4(n + 4) STEPS4(n + 8) STEPS4(n + 12)
#define STEPS64(n) STEPS16(n) STEPS16(n + 16) STEPS16(n + 32) STEPS16(n + 48)
#define STEPS256(n) STEPS64(n) STEPS64(n + 64) STEPS64(n + 128) STEPS64(n + 192)

KEPT unsigned mix(unsigned value)
{
    STEPS256(1)
    STEPS256(257)
    return value + 1;
}

KEPT unsigned key(int index)
{
    return keys[index];
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "mixed %u", mix(key(2)));
}
