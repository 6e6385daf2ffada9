#include "harness.h"
#include <stdio.h>

static const int days[12] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

KEPT int days_of(int month)
{
    return days[month];
}

KEPT int days_until(int month)
{
    int sum = 0;
    for (int i = 0; i < month; i++)
        sum += days[i];
    return sum;
}

KEPT int months_until(int day)
{
    int month = 0;
    while (day > days[month] && month < 11)
        day -= days[month++];
    return month;
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "days %d %d %d %d", days_of(0), days_of(1), days_until(2), months_until(61));
}
