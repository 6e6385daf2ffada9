#include "target.h"
#define X(p, n) int p##n(void) { return 1; }
EACH(g)
