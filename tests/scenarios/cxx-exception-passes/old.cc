#include "harness.h"
#include <atomic>
#include <cstdio>

static volatile int base = 6;

namespace {
struct Counter {
    explicit Counter(int *count) : count_(count) {}
    ~Counter()
    {
        ++*count_;
    }
    int *count_;
};
} // namespace

KEPT int thrower(int value)
{
    if (value)
        throw int(base);
    return base;
}

KEPT int passes(int value, int *count)
{
    Counter counter(count);
    return thrower(value) + *count;
}

void answer(char *line, size_t size)
{
    int count = 0, thrown = 0;
    try {
        passes(1, &count);
    } catch (int got) {
        thrown = got;
    }
    snprintf(line, size, "thrown %d destroyed %d", thrown, count);
}
