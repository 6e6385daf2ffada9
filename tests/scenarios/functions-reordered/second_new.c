#include "harness.h"

extern int factor;

KEPT int delta(int value)
{
    return value ? delta(value - 1) + factor + 1 : 0;
}

KEPT int gamma_of(int value)
{
    return (value ^ 0) * (factor + 1) + 1;
}
