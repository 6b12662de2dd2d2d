# Start of a bare RV32 program: stack, zeroed .bss, main(). qemu loads .data in place, so nothing is copied.
    .section .init, "ax"
    .globl _start
_start:
    la   sp, stack_top
    la   a0, bss_start
    la   a1, bss_end
zero:
    bgeu a0, a1, run
    sw   zero, 0(a0)
    addi a0, a0, 4
    j    zero
run:
    call main
halt:
    j    halt
