# Start of the firmware on a bare ESP32-C3, where the ROM has already mapped flash: stack, .data, zeroed .bss, main().
    .section .init, "ax"
    .globl _start
_start:
    la   sp, stack_top
    la   a0, data_start
    la   a1, data_end
    la   a2, data_image
copy:
    bgeu a0, a1, clear
    lw   t0, 0(a2)
    sw   t0, 0(a0)
    addi a0, a0, 4
    addi a2, a2, 4
    j    copy
clear:
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

# What a programmer would put into model slot a; replaced in the ELF by the simulation (objcopy --update-section).
    .section .slot_a, "a"
    .globl slot_a_image
slot_a_image:
    .fill 73728, 1, 0xFF
