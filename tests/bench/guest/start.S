/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * start.S: from the PVH entry (32-bit, no paging; Xen's docs/misc/pvh.pandoc) to guest_main() in
 * 64-bit mode. The first thing that it does is to say 'S' on COM1: contest 4 waits for that byte.
 */
	.section .note.pvh, "a", @note
	.long 4, 4, 18	/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long start

	.section .text.start, "ax"
	.code32
	.globl start
start:
	mov	$0x3f8, %edx
	mov	$'S', %al
	out	%al, %dx

	lgdt	gdt_pointer
	mov	%cr4, %eax
	or	$0x620, %eax	/* PAE, OSFXSR, OSXMMEXCPT */
	mov	%eax, %cr4
	mov	$page_map, %eax
	mov	%eax, %cr3
	mov	$0xc0000080, %ecx	/* EFER */
	rdmsr
	or	$0x100, %eax	/* LME */
	wrmsr
	mov	$0x80000011, %eax	/* PG, ET, PE */
	mov	%eax, %cr0
	ljmp	$8, $start64

	.code64
start64:
	mov	$16, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	lea	stack_end, %rsp
	mov	%ebx, %edi /* struct hvm_start_info */
	call	guest_main
1:	cli
	hlt
	jmp	1b

/* An MSI: count it, end of interrupt. */
	.globl interrupt
interrupt:
	push	%rax
	incl	interrupts
	mov	$0xfee000b0, %eax
	movl	$0, (%rax)
	pop	%rax
	iretq

	.data
	.balign 8
gdt:
	.quad	0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
	.word	23
	.long	gdt

/* The first 4 GiB mapped to themselves with pages of 2 MiB. */
	.balign 4096
page_map:
	.quad	page_pointers + 3
	.fill	511, 8, 0
page_pointers:
	.quad	page_directories + 3
	.quad	page_directories + 0x1003
	.quad	page_directories + 0x2003
	.quad	page_directories + 0x3003
	.fill	508, 8, 0
page_directories:
	.set	frame, 0
	.rept	2048
	.quad	frame + 0x83
	.set	frame, frame + 0x200000
	.endr

	.bss
	.balign 16
	.skip	16384
stack_end:
