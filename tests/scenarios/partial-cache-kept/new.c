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

static int input;
static int cache;

KEPT void put(int value)
{
    input = value;
}

KEPT int get(const struct session *s, int factor)
{
    return input * factor + s->timeout;
}

KEPT int swap(int value)
{
    int before = cache;
    cache = value;
    return before;
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
    int a, b;
    retry(session);
    put(2);
    a = get(session, 3);
    put(5);
    b = get(session, 3);
    swap(0);
    snprintf(line, size, "cache %d %d %d", a, b, checked(-timeout(session)));
}
