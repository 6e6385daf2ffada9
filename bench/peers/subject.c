/* The library that is changed: ANSWER is 1 in the old build and 2 in the new one. */
#ifndef ANSWER
#define ANSWER 1
#endif

__attribute__((noipa)) int version(int more) {
    volatile int answer = ANSWER;
    return answer + more;
}

__attribute__((noipa)) int stays(volatile const long *until) {
    volatile int answer = ANSWER;
    while (!*until) {}
    return answer;
}
