/* SPDX-License-Identifier: BSD-3-Clause */
/* init.c: /init of contest 5's guest: it says that it runs, and that is all. */
#include <unistd.h>

int main(void)
{
	static const char text[] = "BENCH-INIT\n";

	if (write(STDOUT_FILENO, text, sizeof(text) - 1) < 0)
		return 1;
	for (;;)
		pause();
}
