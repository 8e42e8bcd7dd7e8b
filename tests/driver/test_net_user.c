/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net with NAT: backend=user (a real libslirp) and backend=passt (a real passt), to a guest
 * that has an IPv4 of its own (net_stack.h). In a network namespace of its own as root, where there
 * is a name server for them; without root, user alone and without DNS.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../unit/tap_lab.h"
#include "net_stack.h"

#define SLOT 4
#define NO_MORE_SOCKETS "sockets open: no new ones"
#define HOST_ADDRESS 0x0a090909 /* 10.9.9.9, of the namespace's interface */

static const struct driver_params usual = { .indirect = true, .event_idx = true, .msix = true };

/* @own_namespace: ours, with a resolv.conf that names 127.0.0.1 */
static bool own_namespace;

struct bench {
	struct machine *machine;
	struct virtio_driver *driver;
	struct stack stack;
	char folder[32];
	pid_t passt;
	int fds[8];
	unsigned int fd_count;
};

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return done;
}

/* The host's name server, as far as this process and its children can see. */
static bool mount_resolv_conf(void)
{
	const char *path = "/tmp/tenon-resolv.conf";
	bool done = unshare(CLONE_NEWNS) == 0 &&
		    !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
		    write_file(path, "nameserver 127.0.0.1\n") &&
		    !mount(path, "/etc/resolv.conf", NULL, MS_BIND, NULL);

	unlink(path);
	return done;
}

static int group_setup(void **state)
{
	own_namespace =
		unshare(CLONE_NEWNET) == 0 && !lab_set_up("lo", true) && mount_resolv_conf();
	return 0;
}

static int bench_setup(void **state)
{
	struct bench *bench = test_calloc(1, sizeof(*bench));

	strcpy(bench->folder, "/tmp/tenon-user-XXXXXX");
	assert_non_null(mkdtemp(bench->folder));
	*state = bench;
	return 0;
}

static int bench_teardown(void **state)
{
	struct bench *bench = *state;
	char path[64];

	driver_close(bench->driver);
	machine_destroy(bench->machine);
	for (unsigned int i = 0; i < bench->fd_count; i++)
		close(bench->fds[i]);
	if (bench->passt > 0) {
		kill(bench->passt, SIGKILL);
		waitpid(bench->passt, NULL, 0);
	}
	snprintf(path, sizeof(path), "%s/socket", bench->folder);
	unlink(path);
	rmdir(bench->folder);
	test_free(bench);
	return 0;
}

/* A socket of the host's on a port of 127.0.0.1, which is closed in the end. */
static int host_socket(struct bench *bench, int type, uint16_t *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons(*port),
				       .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(address);

	assert_true(fd >= 0 && bench->fd_count < ARRAY_SIZE(bench->fds));
	bench->fds[bench->fd_count++] = fd;
	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	*port = ntohs(address.sin_port);
	return fd;
}

static uint16_t free_port(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(address);

	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	close(fd);
	return ntohs(address.sin_port);
}

static void guest_start(struct bench *bench, const char *options)
{
	char spec[300];

	bench->machine = machine_create(NULL);
	snprintf(spec, sizeof(spec), "%d,virtio-net,%s", SLOT, options);
	machine_add(bench->machine, spec);
	bench->driver = driver_run(bench->machine, SLOT, &usual, 0);
	stack_init(&bench->stack, bench->driver);
}

static void user_start(struct bench *bench, const char *options)
{
	char all[256];

#ifndef HAVE_SLIRP
	print_message("skipped: built without libslirp\n");
	skip();
#endif
	snprintf(all, sizeof(all), "backend=user%s", options);
	guest_start(bench, all);
}

/* ---- passt, and a network that it can take for its own ---- */

static void passt_exec(const char *path, uint16_t port)
{
	char number[8];
	int null = open("/dev/null", O_RDWR);

	snprintf(number, sizeof(number), "%u", port);
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	execlp("passt", "passt", "--foreground", "--quiet", "--socket", path, "--ipv4-only",
	       "--tcp-ports", number, (char *)NULL);
	_exit(127);
}

static void add_route(void)
{
	if (system("ip link add dummy0 type veth peer name dummy1 2>/dev/null && "
		   "ip address add 10.9.9.9/24 dev dummy0 && ip link set dummy0 up && "
		   "ip link set dummy1 up && ip route add default via 10.9.9.1"))
		print_message("there is an interface already\n");
}

static void passt_start(struct bench *bench, uint16_t port)
{
	char path[64], options[100];

	if (!own_namespace || system("command -v passt ip >/dev/null")) {
		print_message("skipped: needs root, and Debian's passt and iproute2\n");
		skip();
	}
	add_route();
	snprintf(path, sizeof(path), "%s/socket", bench->folder);
	assert_int_equal(chmod(bench->folder, 0777), 0); /* it becomes nobody */
	bench->passt = fork();
	if (!bench->passt)
		passt_exec(path, port);
	for (int i = 0; i < 300 && access(path, F_OK); i++)
		usleep(10000);
	if (access(path, F_OK)) {
		print_message("skipped: passt does not run here\n");
		skip();
	}
	usleep(50000); /* the file is there before it listens */
	snprintf(options, sizeof(options), "backend=passt,path=%s", path);
	guest_start(bench, options);
}

/* ---- What both do ---- */

/* Is @fd readable, while the device's loops run? */
static bool host_readable(struct bench *bench, int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	for (int i = 0; i < 200; i++) {
		machine_poll(bench->machine);
		if (poll(&poll_fd, 1, 10) > 0)
			return true;
	}
	return false;
}

/* The host's socket @fd gets what the guest sends to @to and @port, and the answer comes back. */
static void udp_echo(struct bench *bench, int fd, uint32_t to, uint16_t port)
{
	struct stack *stack = &bench->stack;
	uint8_t sent[1400], got[1500];
	struct sockaddr_in from;

	for (uint32_t size = 1; size <= sizeof(sent); size += 233) {
		socklen_t from_len = sizeof(from);
		const uint8_t *data;
		uint32_t len;

		for (uint32_t i = 0; i < size; i++)
			sent[i] = (uint8_t)(i * 3 + size);
		stack_send_udp(stack, to, 1234, port, sent, size);
		assert_true(host_readable(bench, fd));
		assert_int_equal(
			recvfrom(fd, got, sizeof(got), 0, (struct sockaddr *)&from, &from_len),
			size);
		assert_memory_equal(got, sent, size);
		got[0] ^= 0xff;
		assert_int_equal(sendto(fd, got, size, 0, (struct sockaddr *)&from, from_len),
				 size);
		assert_true(stack_wait_ip(stack, IPPROTO_UDP, 1234, DRIVER_TIMEOUT_MS));
		assert_int_equal(get32(stack->frame + ETH_HLEN + 12), to);
		data = stack_udp_data(stack, &len);
		assert_int_equal(len, size);
		assert_memory_equal(data, got, size);
	}
}

static int host_connect(struct bench *bench, uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons(port),
				       .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0 && bench->fd_count < ARRAY_SIZE(bench->fds));
	bench->fds[bench->fd_count++] = fd;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		assert_int_equal(errno, EINPROGRESS);
	return fd;
}

/* The guest's end of a connection that is there: what it says comes to @fd, and the other way. */
static void tcp_talk(struct bench *bench, struct stack_tcp *tcp, int fd)
{
	struct stack *stack = &bench->stack;
	const uint8_t *data;
	char text[32];
	uint32_t len;

	assert_int_equal(send(fd, "to the guest", 12, 0), 12);
	do
		len = stack_wait_tcp(stack, tcp, TH_ACK, &data);
	while (!len);
	assert_int_equal(len, 12);
	assert_memory_equal(data, "to the guest", 12);
	stack_send_tcp(stack, tcp, TH_ACK | TH_PUSH, "to the host", 11);
	assert_true(host_readable(bench, fd));
	assert_int_equal(recv(fd, text, sizeof(text), 0), 11);
	assert_memory_equal(text, "to the host", 11);
	stack_send_tcp(stack, tcp, TH_ACK | TH_FIN, NULL, 0);
	assert_true(host_readable(bench, fd));
	assert_int_equal(recv(fd, text, sizeof(text), 0), 0);
}

/* A connection to @port of the host, which was forwarded, comes to the guest's @guest_port. */
static void tcp_from_host(struct bench *bench, uint16_t port, uint16_t guest_port)
{
	struct stack_tcp tcp = { .from_port = guest_port, .ours = 1000 };
	int fd = host_connect(bench, port);
	const uint8_t *data;

	stack_wait_tcp(&bench->stack, &tcp, TH_SYN, &data);
	stack_send_tcp(&bench->stack, &tcp, TH_SYN | TH_ACK, NULL, 0);
	tcp_talk(bench, &tcp, fd);
}

/* The guest connects to the host's @port. */
static void tcp_from_guest(struct bench *bench, uint32_t to)
{
	struct stack_tcp tcp = { .to = to, .from_port = 4000, .ours = 5000 };
	int listener = host_socket(bench, SOCK_STREAM, &tcp.to_port);
	const uint8_t *data;
	int fd;

	assert_int_equal(listen(listener, 1), 0);
	stack_send_tcp(&bench->stack, &tcp, TH_SYN, NULL, 0);
	assert_true(host_readable(bench, listener));
	fd = accept(listener, NULL, NULL);
	assert_true(fd >= 0);
	bench->fds[bench->fd_count++] = fd;
	stack_wait_tcp(&bench->stack, &tcp, TH_SYN | TH_ACK, &data);
	stack_send_tcp(&bench->stack, &tcp, TH_ACK, NULL, 0);
	tcp_talk(bench, &tcp, fd);
}

/* A question to the name server that DHCP told of is the host's name server's to answer. */
static void dns_query(struct bench *bench)
{
	static const uint8_t query[] = "\x12\x34\1\0\0\1\0\0\0\0\0\0\5tenon\4test\0\0\1\0";
	struct stack *stack = &bench->stack;
	struct sockaddr_in from;
	socklen_t from_len = sizeof(from);
	uint16_t port = 53;
	uint8_t got[512];
	const uint8_t *data;
	uint32_t len;
	int fd;

	if (!own_namespace) {
		print_message("without DNS: needs root, to be the host's name server\n");
		return;
	}
	fd = host_socket(bench, SOCK_DGRAM, &port);
	stack_send_udp(stack, stack->dns, 999, 53, query, sizeof(query));
	assert_true(host_readable(bench, fd));
	assert_int_equal(recvfrom(fd, got, sizeof(got), 0, (struct sockaddr *)&from, &from_len),
			 sizeof(query));
	assert_memory_equal(got, query, sizeof(query));
	got[2] |= 0x80; /* an answer */
	assert_int_equal(sendto(fd, got, sizeof(query), 0, (struct sockaddr *)&from, from_len),
			 sizeof(query));
	assert_true(stack_wait_ip(stack, IPPROTO_UDP, 999, DRIVER_TIMEOUT_MS));
	data = stack_udp_data(stack, &len);
	assert_int_equal(len, sizeof(query));
	assert_memory_equal(data, got, sizeof(query));
	assert_int_equal(get32(stack->frame + ETH_HLEN + 12), stack->dns);
}

/* ---- user ---- */

static void user_dhcp(void **state)
{
	struct bench *bench = *state;
	struct stack *stack = &bench->stack;

	user_start(bench, ",hostname=penguin");
	stack_dhcp(stack);
	assert_int_equal(stack->address, 0x0a00020f); /* 10.0.2.15 */
	assert_int_equal(stack->mask, 0xffffff00);
	assert_int_equal(stack->gateway, 0x0a000202);
	assert_int_equal(stack->dns, 0x0a000203);
	assert_string_equal(stack->hostname, "penguin");
	stack_arp(stack);
}

static void user_other_network(void **state)
{
	struct bench *bench = *state;
	struct stack *stack = &bench->stack;

	user_start(bench, ",net=192.168.96.0/27,dns=192.0.2.53");
	stack_dhcp(stack);
	assert_int_equal(stack->address, 0xc0a8600f);
	assert_int_equal(stack->mask, 0xffffffe0);
	assert_int_equal(stack->gateway, 0xc0a86002);
	assert_int_equal(stack->dns, 0xc0000235);
	stack_arp(stack);
}

static void user_nat(void **state)
{
	struct bench *bench = *state;
	uint16_t port = 0;
	int fd = host_socket(bench, SOCK_DGRAM, &port);

	user_start(bench, "");
	stack_dhcp(&bench->stack);
	stack_arp(&bench->stack);
	udp_echo(bench, fd, bench->stack.gateway, port);
	tcp_from_guest(bench, bench->stack.gateway);
	dns_query(bench);
}

static void user_hostfwd(void **state)
{
	struct bench *bench = *state;
	uint16_t tcp = free_port(), tcp2 = free_port(), udp = free_port();
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons(udp),
				       .sin_addr = { htonl(INADDR_LOOPBACK) } };
	char options[200];
	uint16_t port = 0;
	int fd = host_socket(bench, SOCK_DGRAM, &port);

	snprintf(options, sizeof(options),
		 ",hostfwd=tcp:127.0.0.1:%u-:22+udp:127.0.0.1:%u-10.0.2.15:69+tcp:127.0.0.1:%u-:80",
		 tcp, udp, tcp2);
	user_start(bench, options);
	stack_dhcp(&bench->stack);
	stack_arp(&bench->stack);
	tcp_from_host(bench, tcp, 22);
	tcp_from_host(bench, tcp2, 80);
	assert_int_equal(sendto(fd, "x", 1, 0, (struct sockaddr *)&address, sizeof(address)), 1);
	assert_true(stack_wait_ip(&bench->stack, IPPROTO_UDP, 69, DRIVER_TIMEOUT_MS));
}

/* The guest has the network to itself, but for those who were let in. */
static void user_restrict(void **state)
{
	struct bench *bench = *state;
	struct stack *stack = &bench->stack;
	struct stack_tcp tcp = { .from_port = 4000, .ours = 5000 };
	uint16_t port = 0, forwarded = free_port();
	int fd = host_socket(bench, SOCK_DGRAM, &port);
	int listener = host_socket(bench, SOCK_STREAM, &tcp.to_port);
	const uint8_t *data;
	char options[100];

	assert_int_equal(listen(listener, 1), 0);
	snprintf(options, sizeof(options), ",restrict=on,hostfwd=tcp:127.0.0.1:%u-:22", forwarded);
	user_start(bench, options);
	stack_dhcp(stack);
	stack->gateway = 0x0a000202; /* DHCP does not tell of it */
	stack_arp(stack);
	stack_send_udp(stack, stack->gateway, 1234, port, "hello", 5);
	tcp.to = stack->gateway;
	stack_send_tcp(stack, &tcp, TH_SYN, NULL, 0);
	stack_wait_tcp(stack, &tcp, TH_RST, &data);
	machine_poll(bench->machine);
	assert_int_equal(recv(fd, options, sizeof(options), MSG_DONTWAIT), -1);
	tcp_from_host(bench, forwarded, 22);
}

/* Garbage of all lengths, then it works as before. */
static void user_garbage(void **state)
{
	struct bench *bench = *state;
	struct stack *stack = &bench->stack;
	uint32_t seed = 1;

	user_start(bench, "");
	stack_dhcp(stack);
	for (uint32_t len = 1; len < 1600; len += len < 100 ? 1 : 77) {
		uint8_t frame[1600];

		for (uint32_t i = 0; i < len; i++) {
			seed = seed * 1103515245 + 12345;
			frame[i] = (uint8_t)(seed >> 16);
		}
		if (len % 2 && len > STACK_IP)
			memcpy(frame + 12, "\x08\0\x45", 3);
		stack_send(stack, frame, len);
	}
	while (stack_receive(stack, 20))
		;
	stack_dhcp(stack);
	stack_arp(stack);
}

/* A guest that opens socket after socket is stopped before the host's descriptors are used up. */
static void user_sockets_bounded(void **state)
{
	struct bench *bench = *state;
	struct stack *stack = &bench->stack;
	uint16_t port = 0;
	int fd = host_socket(bench, SOCK_DGRAM, &port);

	user_start(bench, "");
	stack_dhcp(stack);
	stack_arp(stack);
	for (unsigned int i = 0; i < 2000; i++)
		stack_send_udp(stack, stack->gateway, (uint16_t)(10000 + i), port, "x", 1);
	assert_logged(bench->machine, NO_MORE_SOCKETS);
	fd = dup(fd);
	assert_true(fd >= 0 && fd < 1200);
	close(fd);
	stack_arp(stack);
}

/*
 * A connection that the host ended and the guest does not: the guest has heard of it, and the socket
 * stays. False: the host's end of it was not reached, the guest is refused.
 */
static bool half_close(struct bench *bench, int listener, struct stack_tcp *tcp)
{
	struct stack *stack = &bench->stack;
	const uint8_t *data;
	int fd;

	stack_send_tcp(stack, tcp, TH_SYN, NULL, 0);
	if (machine_logged(bench->machine, NO_MORE_SOCKETS))
		return false;
	assert_true(host_readable(bench, listener));
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(fd >= 0);
	stack_wait_tcp(stack, tcp, TH_SYN | TH_ACK, &data);
	stack_send_tcp(stack, tcp, TH_ACK, NULL, 0);
	close(fd);
	stack_wait_tcp(stack, tcp, TH_FIN, &data);
	stack_send_tcp(stack, tcp, TH_ACK, NULL, 0);
	return true;
}

/* Sockets with which nothing more is to be done are open as well, until the guest closes them. */
static void user_closed_sockets_bounded(void **state)
{
	struct bench *bench = *state;
	struct stack *stack = &bench->stack;
	struct stack_tcp tcp = { 0 };
	int listener = host_socket(bench, SOCK_STREAM, &tcp.to_port);
	unsigned int count;

	assert_int_equal(listen(listener, 1), 0);
	user_start(bench, "");
	stack_dhcp(stack);
	stack_arp(stack);
	for (count = 0; count < 2000; count++) {
		tcp = (struct stack_tcp) { .to = stack->gateway,
					   .from_port = (uint16_t)(10000 + count),
					   .to_port = tcp.to_port,
					   .ours = 5000 };
		if (!half_close(bench, listener, &tcp))
			break;
	}
	assert_logged(bench->machine, NO_MORE_SOCKETS);
	assert_in_range(count, 100, 1024);

	/* One that the guest closes makes room for another. */
	tcp.from_port = 10000;
	tcp.ours = 5001;
	stack_send_tcp(stack, &tcp, TH_RST, NULL, 0);
	machine_log_clear(bench->machine);
	tcp.from_port = 9000;
	tcp.ours = 5000;
	assert_true(half_close(bench, listener, &tcp));
}

/* Who does not receive loses what there is no room for, and gets what comes later. */
static void user_guest_does_not_receive(void **state)
{
	struct bench *bench = *state;
	struct stack *stack = &bench->stack;

	user_start(bench, "");
	stack_dhcp(stack);
	stack_arp(stack);
	for (unsigned int i = 0; i < 8000; i++)
		stack_arp_ask(stack);
	while (stack_receive(stack, 20))
		;
	stack_dhcp(stack);
}

/* ---- passt ---- */

static void passt_nat(void **state)
{
	struct bench *bench = *state;
	struct stack *stack = &bench->stack;
	uint16_t port = 0;
	int fd = host_socket(bench, SOCK_DGRAM, &port);

	passt_start(bench, free_port());
	stack_dhcp(stack);
	assert_int_equal(stack->address, HOST_ADDRESS);
	assert_int_equal(stack->gateway, 0x0a090901);
	stack_arp(stack);
	udp_echo(bench, fd, stack->gateway, port); /* which stands for the host */
	tcp_from_guest(bench, stack->gateway);
}

static void passt_forward(void **state)
{
	struct bench *bench = *state;
	uint16_t port = free_port();

	passt_start(bench, port);
	stack_dhcp(&bench->stack);
	stack_arp(&bench->stack);
	tcp_from_host(bench, port, port);
}

/* passt dies: the driver hears of it, and of the next one. */
static void passt_dies(void **state)
{
	struct bench *bench = *state;
	char path[64];

	passt_start(bench, free_port());
	stack_dhcp(&bench->stack);
	kill(bench->passt, SIGKILL);
	waitpid(bench->passt, NULL, 0);
	assert_true(driver_wait_config(bench->driver, DRIVER_TIMEOUT_MS));
	assert_int_equal(
		driver_config(bench->driver, offsetof(struct virtio_net_config, status), 2), 0);
	snprintf(path, sizeof(path), "%s/socket", bench->folder);
	unlink(path);
	bench->passt = fork();
	if (!bench->passt)
		passt_exec(path, free_port());
	assert_true(driver_wait_config(bench->driver, DRIVER_TIMEOUT_MS));
	stack_dhcp(&bench->stack);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, bench_setup, bench_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(user_dhcp),
		TEST(user_other_network),
		TEST(user_nat),
		TEST(user_hostfwd),
		TEST(user_restrict),
		TEST(user_garbage),
		TEST(user_sockets_bounded),
		TEST(user_closed_sockets_bounded),
		TEST(user_guest_does_not_receive),
		TEST(passt_nat),
		TEST(passt_forward),
		TEST(passt_dies),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
