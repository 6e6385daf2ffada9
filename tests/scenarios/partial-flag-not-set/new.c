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

struct item {
    long room[9];
    int key;
    int valid;
};

KEPT void put(struct item *i, int key)
{
    i->key = key;
}

KEPT int get(const struct session *s, const struct item *i)
{
    return i->key + s->timeout;
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
    struct item *fresh = calloc(1, sizeof *fresh);
    retry(session);
    put(fresh, 5);
    snprintf(line, size, "flag %d %d", get(session, fresh), checked(-timeout(session)));
    free(fresh);
}
