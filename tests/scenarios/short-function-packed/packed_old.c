/* In assembler, because compilers align functions. */
#define FUNCTION(name, body)           \
    __asm__(".text\n"                  \
            ".globl " name "\n"        \
            ".type " name ", @function\n" \
            name ":\n"                 \
            "    .cfi_startproc\n"     \
            "    " body "\n"           \
            "    ret\n"                \
            "    .cfi_endproc\n"       \
            ".size " name ", . - " name "\n")

FUNCTION("before", "movl $1, %eax");
FUNCTION("flags", "xorl %eax, %eax");
FUNCTION("after", "movl $1, %eax");
