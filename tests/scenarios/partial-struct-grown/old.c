#include "harness.h"
#include <stdio.h>
#include <stdlib.h>

struct session {
    char name[16];
    int state;
    int flags;
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

KEPT int state(const struct session *s)
{
    return s->state;
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

KEPT int extent(const struct session *s)
{
    return (int)((const char *)(s + 1) - (const char *)s);
}

KEPT int checked(int length)
{
    return length > 100 ? 100 : length;
}

void setup(void)
{
    session = malloc(sizeof *session);
    begin(session);
}

void answer(char *line, size_t size)
{
    retry(session);
    snprintf(line, size, "session %d %d %d", state(session), timeout(session), checked(-timeout(session)));
}
