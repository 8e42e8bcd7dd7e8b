/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * probe: what a lab guest measures with: round trips of trapped accesses, UDP packets a second.
 * Linked statically, runs in guest and outer machine. Prints one number.
 */
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PACKET_SIZE 64
#define PAGE 4096

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* pio PORT COUNT: nanoseconds a read of a port. */
static void probe_pio(char **argv)
{
	unsigned short port = (unsigned short)strtoul(argv[0], NULL, 0);
	long count = atol(argv[1]);
	double start;

	if (iopl(3))
		err(1, "iopl");
	start = now();
	for (long i = 0; i < count; i++)
		inb(port);
	printf("%.0f\n", (now() - start) / (double)count * 1e9);
}

/* mmio FILE COUNT: nanoseconds a 32-bit read at the start of what @argv[0] maps. */
static void probe_mmio(char **argv)
{
	int fd = open(argv[0], O_RDWR);
	long count = atol(argv[1]);
	volatile unsigned int *page;
	double start;

	if (fd < 0)
		err(1, "%s", argv[0]);
	page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		err(1, "%s", argv[0]);
	start = now();
	for (long i = 0; i < count; i++)
		(void)*page;
	printf("%.0f\n", (now() - start) / (double)count * 1e9);
}

static int udp_socket(const char *address, const char *port, int server)
{
	struct sockaddr_in name = { .sin_family = AF_INET,
				    .sin_port = htons((unsigned short)atoi(port)) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0 || !inet_aton(address, &name.sin_addr))
		err(1, "%s", address);
	if (server ? bind(fd, (struct sockaddr *)&name, sizeof(name))
		   : connect(fd, (struct sockaddr *)&name, sizeof(name)))
		err(1, "%s port %s", address, port);
	return fd;
}

/* udp-send ADDRESS PORT SECONDS: packets a second handed to the kernel. */
static void probe_udp_send(char **argv)
{
	int fd = udp_socket(argv[0], argv[1], 0);
	double start = now(), end = start + atof(argv[2]);
	char packet[PACKET_SIZE] = "";
	long count = 0;

	while (now() < end)
		for (int i = 0; i < 16; i++)
			count += send(fd, packet, sizeof(packet), 0) == sizeof(packet);
	printf("%.0f\n", (double)count / (now() - start));
}

/* udp-receive PORT: packets a second from the first one until none has come for a second. */
static void probe_udp_receive(char **argv)
{
	struct pollfd wait = { .fd = udp_socket("0.0.0.0", argv[0], 1), .events = POLLIN };
	char packet[PACKET_SIZE];
	double first = 0, last = 0;
	long count = 0;

	while (poll(&wait, 1, count ? 1000 : 30000) > 0) {
		if (recv(wait.fd, packet, sizeof(packet), 0) < 0)
			continue;
		last = now();
		if (!count++)
			first = last;
	}
	printf("%.0f\n", count > 1 ? (double)(count - 1) / (last - first) : 0);
}

static const struct {
	const char *name;
	int arguments;
	void (*run)(char **argv);
} probes[] = {
	{ "pio", 2, probe_pio },
	{ "mmio", 2, probe_mmio },
	{ "udp-send", 3, probe_udp_send },
	{ "udp-receive", 1, probe_udp_receive },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof(probes) / sizeof(probes[0]); i++) {
		if (strcmp(argv[1], probes[i].name) || argc - 2 != probes[i].arguments)
			continue;
		probes[i].run(argv + 2);
		return 0;
	}
	fputs("usage: probe pio PORT COUNT | mmio FILE COUNT | udp-send ADDRESS PORT SECONDS |\n"
	      "             udp-receive PORT\n",
	      stderr);
	return 2;
}
