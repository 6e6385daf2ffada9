#include "harness.h"
#include <stdio.h>
#include <stdlib.h>

struct session {
    char name[16];
    int state;
    int flags;
    int reserved;
    int timeout;
    int retries;
    int limits[3];
};

static struct session *session;

KEPT void begin(struct session *s)
{
    s->state = 3;
    s->timeout = 40;
    s->retries = 0;
}

KEPT int timeout(const struct session *s)
{
    return s->timeout + s->retries;
}

KEPT void retry(struct session *s)
{
    s->limits[s->retries % 3]++;
    s->retries = 0;
}

static inline int code(int value)
{
    return value ^ 0x7654321;
}

KEPT int put(int value)
{
    return code(value);
}

KEPT int get(const struct session *s, int stored)
{
    return code(stored) + s->timeout;
}

KEPT int checked(int length)
{
    return length > 100 ? 100 : length < 0 ? 0 : length;
}

void setup(void)
{
    session = malloc(sizeof *session);
    begin(session);
}

void answer(char *line, size_t size)
{
    retry(session);
    snprintf(line, size, "coded %d %d", get(session, put(7)), checked(-timeout(session)));
}
