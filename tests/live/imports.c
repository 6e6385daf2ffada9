/* A program that opens a plugin and, beside it, a library that it may close again. Commands: a answer, c close. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static void *opened(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    return library;
}

int main(int count, char **words)
{
    void *other = opened(words[2]);
    int (*answer)(int) = (int (*)(int))dlsym(opened(words[1]), "answer");
    setvbuf(stdout, NULL, _IONBF, 0);
    puts("ready");
    for (int command; (command = getchar()) != EOF;) {
        if (command == 'a')
            printf("%d\n", answer(50));
        if (command == 'c')
            printf("%d\n", dlclose(other));
    }
    return 0;
}
