/* A library that comes and goes. */
int first(void) { return 1; }
int second(void) { return 1; }
