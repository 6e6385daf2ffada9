/* In assembler, because compilers align functions: the page ends behind the first two bytes. */
__asm__(".text\n"
        ".balign 4096\n"
        ".skip 4094, 0x90\n"
        ".globl at_the_edge\n"
        ".type at_the_edge, @function\n"
        "at_the_edge:\n"
        "    .cfi_startproc\n"
        "    leal (%rdi,%rdi,2), %eax\n"
        "    addl base(%rip), %eax\n"
        "    addl $1, %eax\n"
        "    ret\n"
        "    .cfi_endproc\n"
        ".size at_the_edge, . - at_the_edge\n");
