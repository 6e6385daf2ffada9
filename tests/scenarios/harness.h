/* What every scenario program has: a loop that answers lines, and how a scenario plugs into it. */
#ifndef HARNESS_H
#define HARNESS_H
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The scenario's one duty: write one line without ';' and '|' that tells old code from new. */
void answer(char *line, size_t size);

/* Optional: called once before the first question. */
void setup(void) __attribute__((weak));

/* Optional: called on a thread of its own by the command `hold`; it comes to harness_wait() sooner or later. */
void hold(void) __attribute__((weak));

/* Blocks until the command `release`; safe in a signal handler. */
void harness_wait(void);

#ifdef __cplusplus
}
#endif

/* A function that neither is inlined nor tells its callers anything about itself. */
#ifdef __clang__
#define KEPT __attribute__((noinline))
#else
#define KEPT __attribute__((noipa))
#endif

/* Makes the compiler forget what it knows about a value. */
#define HIDE(value) __asm__ volatile("" : "+r"(value))

#endif
