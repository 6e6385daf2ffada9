#include "harness.h"
#include <cstdio>
#include <execinfo.h>
#include <stdexcept>
#include <string>

static volatile int base = 5;

namespace {
struct Own {
    explicit Own(int value) : value(value) {}
    int value;
};
struct Guard {
    explicit Guard(int *count) : count(count) {}
    ~Guard()
    {
        ++*count;
    }
    int *count;
};
} // namespace

struct Failure : std::runtime_error {
    explicit Failure(const std::string &text) : std::runtime_error(text) {}
};

/* Never changes: throws what its caller asks for. */
KEPT void complain(int how)
{
    if (how == 1)
        throw Own(base);
    if (how == 2)
        throw Failure("no");
    if (how == 3)
        throw std::out_of_range("far");
}

KEPT int depth()
{
    void *frames[64];
    return backtrace(frames, 64);
}

/* Changed: an exception passes, and a destructor runs. */
KEPT int passes(int how, int *count)
{
    Guard guard(count);
    complain(how);
    return base + *count;
}

/* Changed: catches a type that only this file knows. */
KEPT int catches(int how)
{
    try {
        complain(how);
    } catch (const Own &own) {
        return own.value + 10;
    } catch (const std::runtime_error &) {
        return 2 + 10;
    }
    return base;
}

/* Changed: catches, and throws it again. */
KEPT int again(int how, int *count)
{
    Guard guard(count);
    try {
        complain(how);
    } catch (...) {
        *count += 4;
        throw;
    }
    return base;
}

/* Changed: asks how deep the stack is. */
KEPT int deep()
{
    int found = depth();
    return found > 2 ? found + 0 : -100;
}

KEPT int thrower(int value)
{
    if (value > base)
        throw Failure("b");
    return value;
}

/* Never changes: sees what the changed ones throw. */
KEPT int seen(int (*call)(int, int *), int how)
{
    int count = 0;
    try {
        return call(how, &count);
    } catch (const Own &own) {
        return 100 * own.value + count;
    } catch (const std::exception &) {
        return 1000 + count;
    }
}

KEPT int level()
{
    int here = depth();
    return deep() - here;
}

KEPT int fails()
{
    try {
        return thrower(3);
    } catch (const Failure &failure) {
        return failure.what()[0];
    }
}

void answer(char *line, size_t size)
{
    snprintf(line, size, "passes %d %d catches %d %d again %d %d depth %d thrower %d", seen(passes, 1), seen(passes, 0),
             catches(1), catches(2), seen(again, 2), seen(again, 3), level(), fails());
}
