__thread int depth = 2;
static __thread int calls;
static __thread int last;

int enter(void)
{
    calls++;
    last = depth;
    return last + 3;
}

int leave(void)
{
    depth = 2;
    last = 0;
    return calls-- > 0;
}
