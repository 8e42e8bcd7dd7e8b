/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guest.S: what runs in the VMs of the hsmd tests. Each program is copied to guest address 0x1000
 * and starts there. Port 0x500: "ready", port 0x501: "done"; 0x502 and on: what it has to say.
 */
#define READY 0x500
#define DONE 0x501
#define SAY 0x502

#define BASE 0x1000

	.section .rodata

.macro program name
	.globl guest_\name, guest_\name\()_end
	.balign 16
guest_\name:
.endm

.macro finish name
guest_\name\()_end:
.endm

/* Write eax, ax or al to a port. */
.macro say port
	movw $\port, %dx
	outl %eax, %dx
.endm

.macro stop
	say DONE
9:	hlt
	jmp 9b
.endm

/* ---- Real mode */

	.code16
program pio
	movw $0x600, %dx
	movl $0x11223344, %eax
	outb %al, %dx
	outw %ax, %dx
	outl %eax, %dx
	xorl %eax, %eax
	inb %dx, %al
	say SAY
	xorl %eax, %eax
	inw %dx, %ax
	say SAY
	inl %dx, %eax
	say SAY
	outb %al, $0x80
	stop
finish pio

program string
	movw $BASE + (text - guest_string), %si
	movw $3, %cx
	movw $0x600, %dx
	cld
	rep outsb
	xorw %ax, %ax
	movw %ax, %es
	movw $0x5000, %di
	movw $2, %cx
	rep insw
	movl 0x5000, %eax
	say SAY
	stop
text:	.ascii "abc"
finish string

program pci
	movw $0xcf8, %dx
	movl $0x81021944, %eax /* register 0x144, bus 2, device 3, function 1 */
	outl %eax, %dx
	xorl %eax, %eax
	inl %dx, %eax
	say SAY
	movw $0xcfd, %dx
	xorl %eax, %eax
	inb %dx, %al
	say SAY
	movw $0xcfe, %dx
	movw $0xbeef, %ax
	outw %ax, %dx
	movw $0xcfc, %dx
	inl %dx, %eax
	say SAY
	movw $0xcfa, %dx
	inb %dx, %al
	movw $0xcf8, %dx
	movl $0x00021944, %eax /* not enabled */
	outl %eax, %dx
	movw $0xcfc, %dx
	outl %eax, %dx
	inl %dx, %eax
	say SAY
	stop
finish pci

program loop
	movw $0x600, %dx
1:	inl %dx, %eax
	jmp 1b
finish loop

program spin
	say READY
1:	jmp 1b
finish spin

program sleep
	say READY
1:	hlt
	jmp 1b
finish sleep

program once
	inl %dx, %eax
	say SAY
	stop
finish once

program fault
	lidt BASE + (nothing - guest_fault)
	ud2
nothing:
	.word 0
	.long 0
finish fault

program identity
	movl $0x40000000, %eax
	cpuid
	say SAY
	movl %ebx, %eax
	say SAY
	movl $0x40000010, %eax
	cpuid
	say SAY
	movl $1, %eax
	cpuid
	movl %ecx, %eax
	say SAY
	stop
finish identity

program memory
	movl 0x8000, %eax
	say SAY
	movl $0x600df00d, 0x8004
	movl $0x0badc0de, 0x9000 /* read-only there */
	movl 0x9000, %eax
	say SAY
	movl 0xa000, %eax /* taken away */
	say SAY
	stop
finish memory

/* Both PICs on: vectors 0x20 and 0x28, every handler says its number. */
program pic
	cli
	movb $0x11, %al
	outb %al, $0x20
	outb %al, $0xa0
	movb $0x20, %al
	outb %al, $0x21
	movb $0x28, %al
	outb %al, $0xa1
	movb $0x04, %al
	outb %al, $0x21
	movb $0x02, %al
	outb %al, $0xa1
	movb $0x01, %al
	outb %al, $0x21
	outb %al, $0xa1
	xorb %al, %al
	outb %al, $0x21
	outb %al, $0xa1
	movw $0x20 * 4, %bx
	movw $BASE + (stubs - guest_pic), %ax
1:	movw %ax, (%bx)
	movw $0, 2(%bx)
	addw $4, %bx
	addw $8, %ax
	cmpw $0x30 * 4, %bx
	jne 1b
	say READY
	sti
2:	hlt
	jmp 2b
	.set number, 0
	.balign 8
stubs:
	.rept 16
	movw $number, %ax
	jmp interrupt
	.balign 8
	.set number, number + 1
	.endr
interrupt:
	movzwl %ax, %eax
	say SAY
	movb $0x20, %al
	outb %al, $0xa0
	outb %al, $0x20
	iretw
finish pic

/* ---- 32-bit protected mode, flat */

	.code32
program mmio
	movl $0x80000000, %ebx
	movl $0x11223344, %eax
	movb %al, (%ebx)
	movw %ax, 2(%ebx)
	movl %eax, 4(%ebx)
	xorl %eax, %eax
	movb (%ebx), %al
	say SAY
	xorl %eax, %eax
	movw 2(%ebx), %ax
	say SAY
	movl 4(%ebx), %eax
	say SAY
	movl $0x55667788, %eax
	movl %eax, 0xffe(%ebx) /* across pages */
	movl 0xffe(%ebx), %eax
	say SAY
	addl $0x10, 8(%ebx) /* read and write */
	stop
finish mmio

/* An IDT whose gates 0x40 to 0x4f lead to handlers that say their number; local APIC on. */
program apic
	movb $0xff, %al /* nothing from the PICs */
	outb %al, $0x21
	outb %al, $0xa1
	movl $0x3000 + 0x40 * 8, %edi
	movl $BASE + (gates - guest_apic), %eax
	movl $16, %ecx
1:	movw %ax, (%edi)
	movw $0x10, 2(%edi)
	movw $0x8e00, 4(%edi)
	movw $0, 6(%edi)
	addl $8, %edi
	addl $16, %eax
	loop 1b
	lidt BASE + (idt - guest_apic)
	movl $0x1ff, 0xfee000f0
	/* IOAPIC: pin 2 edge to vector 0x41, pin 20 level to vector 0x42 */
	movl $0x10 + 2 * 2, 0xfec00000
	movl $0x41, 0xfec00010
	movl $0x10 + 2 * 20, 0xfec00000
	movl $0x8042, 0xfec00010
	say READY
	sti
2:	hlt
	jmp 2b
idt:	.word 0x50 * 8 - 1
	.long 0x3000
	.set number, 0x40
	.balign 16
gates:
	.rept 16
	movl $number, %eax
	jmp handler
	.balign 16
	.set number, number + 1
	.endr
handler:
	say SAY
	movl $0, 0xfee000b0
	iretl
finish apic

/* Kicks: what the ioeventfd test expects is written there. */
program kick
	movl $0x80001000, %ebx
	say READY
	movw $1, (%ebx)
	movw $2, (%ebx)
	movb $1, (%ebx)
	movl $1, (%ebx)
	movw $1, 0x10(%ebx)
	movl (%ebx), %eax
	movw 0x10(%ebx), %ax
	say SAY
	movw $0x700, %dx
	movl $7, %eax
	outw %ax, %dx
	movl $8, %eax
	outw %ax, %dx
	stop
finish kick

/* Wakes CPU 1, which runs at 0x2000 and says who it is. */
program smp
	movl $0x1ff, 0xfee000f0
	movl $BASE + (other - guest_smp), %esi
	movl $0x2000, %edi
	movl $other_end - other, %ecx
	cld
	rep movsb
	movl $0x01000000, 0xfee00310
	movl $0x00004500, 0xfee00300
	movl $0x01000000, 0xfee00310
	movl $0x00004602, 0xfee00300
1:	hlt
	jmp 1b
	.code16
other:
	movl $1, %eax
	cpuid
	shrl $24, %ebx
	movl %ebx, %eax
	say SAY
	stop
other_end:
finish smp

/* ---- Long mode */

	.code64
program long
	movl $0x80000000, %ebx
	movabsq $0x1122334455667788, %rax
	movq %rax, (%rbx)
	movq 8(%rbx), %rax
	say SAY
	shrq $32, %rax
	say SAY
	movl %cs, %eax
	say SAY
	stop
finish long

	.section .note.GNU-stack, "", @progbits
