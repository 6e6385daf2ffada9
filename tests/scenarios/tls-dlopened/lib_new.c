__thread int depth = 2;
__thread int calls;

int enter(void)
{
    calls++;
    return depth + 3 + (calls > 0);
}

int leave(void)
{
    depth = 2;
    return calls-- > 0;
}
