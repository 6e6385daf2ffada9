/* To be preloaded: stacks of threads as glibc 2.42 makes them on Linux 6.13 and later. Guard pages cut no mapping, so the
   kernel shows stacks that lie side by side as one, in which there are pages that nobody can read. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>

enum { SIZE = 256 << 10, PAGE = 4096, GUARD_INSTALL = 102 };

int pthread_create(pthread_t *thread, const pthread_attr_t *wish, void *(*begin)(void *), void *argument) {
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
    pthread_attr_t own;
    char *stack = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    (void)wish;
    if (madvise(stack, PAGE, GUARD_INSTALL)) mprotect(stack, PAGE, PROT_NONE); /* an older kernel */
    pthread_attr_init(&own);
    pthread_attr_setstack(&own, stack, SIZE);
    return real(thread, &own, begin, argument);
}
