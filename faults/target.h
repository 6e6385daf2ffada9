/* Functions that both halves of the target have: each returns the number of its build; f7 is left as it was by the third. */
#define EACH(prefix) \
    X(prefix, 0) X(prefix, 1) X(prefix, 2) X(prefix, 3) X(prefix, 4) X(prefix, 5) X(prefix, 6) X(prefix, 7)
