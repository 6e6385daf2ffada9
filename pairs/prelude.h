/* What stands before every C and C++ pair. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "harness.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef NEW
#define OLD_NEW(old, ...) __VA_ARGS__
#else
#define OLD_NEW(old, ...) old
#endif
