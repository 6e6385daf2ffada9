#include "harness.h"

extern int factor;

KEPT int beta(int value)
{
    int sum = 0;
    while (value-- > 0)
        sum += factor + 1;
    return sum;
}

KEPT int alpha(int value)
{
    return value * factor + value;
}
