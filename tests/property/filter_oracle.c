/* What the kernel says to a system call under seccomp filters.
   One line on stdin: number, six arguments (hexadecimal), then filters as hexadecimal bytes, the oldest first.
   One line on stdout: "errno N", "result N", or "signal N". The very first line is the address behind `syscall`. */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char behind[];
static char line[1 << 20];

__attribute__((noinline)) static long call(long n, unsigned long *a) {
    long result;
    register long r10 asm("r10") = a[3], r8 asm("r8") = a[4], r9 asm("r9") = a[5];
    asm volatile("syscall\n.globl behind\nbehind:" : "=a"(result)
                 : "a"(n), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return result;
}

static void install(const char *hex) {
    static struct sock_filter code[4096];
    size_t size = strlen(hex) / 2;
    for (size_t i = 0; i < size; i++) sscanf(hex + 2 * i, "%2hhx", (unsigned char *)code + i);
    struct sock_fprog program = {.len = size / 8, .filter = code};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) _exit(99);
}

int main(void) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    printf("%lx\n", (unsigned long)behind);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        pid_t child = fork();
        if (child == 0) {
            unsigned long a[6];
            long number = strtol(strtok(line, " \n"), NULL, 16);
            for (int i = 0; i < 6; i++) a[i] = strtoul(strtok(NULL, " \n"), NULL, 16);
            for (char *hex; (hex = strtok(NULL, " \n"));) install(hex);
            long result = call(number, a);
            if (result < 0) printf("errno %ld\n", -result);
            else printf("result %ld\n", result);
            fflush(stdout);
            _exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        if (WIFSIGNALED(status)) printf("signal %d\n", WTERMSIG(status));
        else if (WEXITSTATUS(status)) printf("exit %d\n", WEXITSTATUS(status));
        fflush(stdout);
    }
    return 0;
}
