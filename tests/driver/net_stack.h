/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * net_stack.h: a guest's IPv4 of a few lines, on a virtio-net driver: ARP, UDP, a TCP segment at a
 * time, DHCP. Checksums are made and checked, for nobody does them for it.
 */
#ifndef TENON_TESTS_NET_STACK_H
#define TENON_TESTS_NET_STACK_H

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <time.h>

#include "virtio_driver.h"

#define STACK_BUFFERS 32
#define STACK_BUFFER 2048
#define STACK_HEADER sizeof(struct virtio_net_hdr_v1)
#define STACK_IP (ETH_HLEN + sizeof(struct iphdr))

/*
 * @mac, @address: ours; @gateway_mac, @gateway, @dns: what ARP and DHCP told
 * @frame, @len: the last frame received
 */
struct stack {
	struct virtio_driver *driver;
	uint8_t mac[ETH_ALEN], gateway_mac[ETH_ALEN];
	uint32_t address, gateway, mask, dns;
	char hostname[64];
	struct segment buffers[STACK_BUFFERS];
	struct segment out;
	uint8_t frame[STACK_BUFFER];
	uint32_t len;
};

static inline void stack_post(struct stack *stack, struct segment *buffer)
{
	struct driver_queue *queue = driver_queue(stack->driver, 0);

	assert_int_equal(driver_add_buf(queue, buffer, 0, 1, buffer), 0);
	driver_kick(queue);
}

/* The driver is running. */
static inline void stack_init(struct stack *stack, struct virtio_driver *driver)
{
	struct machine *machine = driver->machine;

	memset(stack, 0, sizeof(*stack));
	stack->driver = driver;
	for (unsigned int i = 0; i < ETH_ALEN; i++)
		stack->mac[i] = (uint8_t)driver_config(driver, i, 1);
	stack->out = (struct segment) { guest_alloc(machine, STACK_BUFFER, 16), STACK_BUFFER };
	for (unsigned int i = 0; i < STACK_BUFFERS; i++) {
		stack->buffers[i] =
			(struct segment) { guest_alloc(machine, STACK_BUFFER, 16), STACK_BUFFER };
		stack_post(stack, &stack->buffers[i]);
	}
}

/* ---- Checksums ---- */

static inline uint32_t sum_add(uint32_t sum, const void *data, size_t len)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < len; i++)
		sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
	return sum;
}

static inline uint16_t sum_end(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* Of the IP packet at @ip, whose header has no options: 0 if it is right. */
static inline uint16_t transport_sum(const uint8_t *ip, size_t len)
{
	uint32_t sum = ip[9] + (uint32_t)(len - sizeof(struct iphdr));

	sum = sum_add(sum, ip + 12, 8);
	return sum_end(sum_add(sum, ip + sizeof(struct iphdr), len - sizeof(struct iphdr)));
}

/* ---- Frames ---- */

static inline void stack_send(struct stack *stack, const uint8_t *frame, uint32_t len)
{
	struct driver_queue *queue = driver_queue(stack->driver, 1);
	struct segment segment = { stack->out.gpa, STACK_HEADER + len };
	uint8_t *to = guest_ptr(stack->driver->machine, stack->out.gpa, STACK_BUFFER);

	memset(to, 0, STACK_HEADER);
	memcpy(to + STACK_HEADER, frame, len);
	assert_int_equal(driver_add_buf(queue, &segment, 1, 0, stack), 0);
	driver_kick(queue);
	assert_ptr_equal(driver_wait_buf(queue, NULL, DRIVER_TIMEOUT_MS), stack);
}

/* The next frame, with all of its sums right if it is UDP or TCP. */
static inline bool stack_receive(struct stack *stack, int timeout_ms)
{
	uint32_t len;
	struct segment *buffer = driver_wait_buf(driver_queue(stack->driver, 0), &len, timeout_ms);
	const uint8_t *from, *ip = stack->frame + ETH_HLEN;

	if (!buffer)
		return false;
	from = guest_ptr(stack->driver->machine, buffer->gpa, STACK_BUFFER);
	assert_true(len >= STACK_HEADER + ETH_HLEN && len <= STACK_BUFFER);
	assert_memory_equal(from, "\0\0\0\0\0\0\0\0\0\0\1\0", STACK_HEADER);
	stack->len = len - STACK_HEADER;
	memcpy(stack->frame, from + STACK_HEADER, stack->len);
	stack_post(stack, buffer);
	if (stack->frame[12] != 8 || stack->frame[13] || stack->len < STACK_IP)
		return true;
	assert_int_equal(sum_end(sum_add(0, ip, sizeof(struct iphdr))), 0);
	if (ip[9] == IPPROTO_TCP || (ip[9] == IPPROTO_UDP && (ip[26] | ip[27])))
		assert_int_equal(transport_sum(ip, (size_t)(ip[2] << 8 | ip[3])), 0);
	return true;
}

static inline bool stack_is_ip(const struct stack *stack, uint8_t protocol, uint16_t to_port)
{
	const uint8_t *ip = stack->frame + ETH_HLEN;

	return stack->frame[12] == 8 && !stack->frame[13] && ip[9] == protocol &&
	       (ip[22] << 8 | ip[23]) == to_port;
}

/* Frames until one of @protocol comes for @to_port. */
static inline bool stack_wait_ip(struct stack *stack, uint8_t protocol, uint16_t to_port,
				 int timeout_ms)
{
	for (int i = 0; i < 100 && stack_receive(stack, timeout_ms); i++)
		if (stack_is_ip(stack, protocol, to_port))
			return true;
	return false;
}

static inline void put16(uint8_t *to, unsigned int value)
{
	to[0] = (uint8_t)(value >> 8);
	to[1] = (uint8_t)value;
}

static inline void put32(uint8_t *to, uint32_t value)
{
	put16(to, value >> 16);
	put16(to + 2, value);
}

static inline uint32_t get32(const uint8_t *from)
{
	return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

/*
 * An IP packet with @len bytes of transport header and data, whose sum goes to @sum_at of them.
 * Addresses are numbers, not in network order.
 */
static inline void stack_send_ip(struct stack *stack, uint32_t to, uint8_t protocol,
				 const uint8_t *data, uint32_t len, unsigned int sum_at)
{
	uint8_t frame[STACK_BUFFER - STACK_HEADER] = { 0 };
	uint8_t *ip = frame + ETH_HLEN;

	assert_true(STACK_IP + len <= sizeof(frame));
	memcpy(frame,
	       to == UINT32_MAX ? (const uint8_t *)"\xff\xff\xff\xff\xff\xff" : stack->gateway_mac,
	       ETH_ALEN);
	memcpy(frame + ETH_ALEN, stack->mac, ETH_ALEN);
	put16(frame + 12, ETH_P_IP);
	ip[0] = 0x45;
	put16(ip + 2, (unsigned int)sizeof(struct iphdr) + len);
	ip[8] = 64;
	ip[9] = protocol;
	put32(ip + 12, stack->address);
	put32(ip + 16, to);
	put16(ip + 10, sum_end(sum_add(0, ip, sizeof(struct iphdr))));
	memcpy(ip + sizeof(struct iphdr), data, len);
	put16(ip + sizeof(struct iphdr) + sum_at, transport_sum(ip, sizeof(struct iphdr) + len));
	stack_send(stack, frame, (uint32_t)STACK_IP + len); /* not padded: no guest does */
}

/* ---- ARP ---- */

static inline void stack_answer_arp(struct stack *stack)
{
	uint8_t reply[ETH_ZLEN] = { 0 };

	memcpy(reply, stack->frame + ETH_ALEN, ETH_ALEN);
	memcpy(reply + ETH_ALEN, stack->mac, ETH_ALEN);
	memcpy(reply + 12, "\x08\x06\0\1\x08\0\6\4\0\2", 10);
	memcpy(reply + 22, stack->mac, ETH_ALEN);
	put32(reply + 28, stack->address);
	memcpy(reply + 32, stack->frame + 22, 10);
	stack_send(stack, reply, sizeof(reply));
}

static inline bool stack_is_arp(const struct stack *stack, uint8_t operation)
{
	return stack->len >= 42 && stack->frame[12] == 8 && stack->frame[13] == 6 &&
	       stack->frame[21] == operation;
}

/* Who has the gateway's address? */
static inline void stack_arp_ask(struct stack *stack)
{
	uint8_t request[ETH_ZLEN] = { 0 };

	memset(request, 0xff, ETH_ALEN);
	memcpy(request + ETH_ALEN, stack->mac, ETH_ALEN);
	memcpy(request + 12, "\x08\x06\0\1\x08\0\6\4\0\1", 10);
	memcpy(request + 22, stack->mac, ETH_ALEN);
	put32(request + 28, stack->address);
	put32(request + 38, stack->gateway);
	stack_send(stack, request, sizeof(request));
}

/* The gateway's answer becomes gateway_mac. */
static inline void stack_arp(struct stack *stack)
{
	stack_arp_ask(stack);
	while (stack_receive(stack, DRIVER_TIMEOUT_MS)) {
		if (!stack_is_arp(stack, 2))
			continue;
		assert_int_equal(get32(stack->frame + 28), stack->gateway);
		memcpy(stack->gateway_mac, stack->frame + 22, ETH_ALEN);
		return;
	}
	fail_msg("no answer to ARP");
}

/* ---- UDP ---- */

static inline void stack_send_udp(struct stack *stack, uint32_t to, uint16_t from_port,
				  uint16_t to_port, const void *data, uint32_t len)
{
	uint8_t packet[STACK_BUFFER] = { 0 };

	put16(packet, from_port);
	put16(packet + 2, to_port);
	put16(packet + 4, 8 + len);
	memcpy(packet + 8, data, len);
	stack_send_ip(stack, to, IPPROTO_UDP, packet, 8 + len, 6);
}

/* The data of the UDP packet received last. */
static inline const uint8_t *stack_udp_data(const struct stack *stack, uint32_t *len)
{
	const uint8_t *udp = stack->frame + STACK_IP;

	*len = (uint32_t)(udp[4] << 8 | udp[5]) - 8;
	return udp + 8;
}

/* ---- DHCP (RFC 2131) ---- */

enum { DHCP_DISCOVER = 1, DHCP_OFFER, DHCP_REQUEST, DHCP_ACK = 5 };

static inline const uint8_t *dhcp_option(const uint8_t *message, uint32_t len, uint8_t option)
{
	uint32_t at = 240;

	while (at + 1 < len && message[at] != 255) {
		if (message[at] == option)
			return message + at + 1;
		at += message[at] ? 2u + message[at + 1] : 1;
	}
	return NULL;
}

static inline void dhcp_send(struct stack *stack, uint8_t type, uint32_t wanted, uint32_t server)
{
	uint8_t message[300] = { 1, 1, 6, 0, 1, 2, 3, 4 };
	uint8_t *option = message + 240;

	memcpy(message + 28, stack->mac, ETH_ALEN);
	put32(message + 236, 0x63825363);
	option[0] = 53;
	option[1] = 1;
	option[2] = type;
	option += 3;
	if (wanted) {
		memcpy(option, "\x32\4", 2);
		put32(option + 2, wanted);
		memcpy(option + 6, "\x36\4", 2);
		put32(option + 8, server);
		option += 12;
	}
	*option = 255;
	stack_send_udp(stack, UINT32_MAX, 68, 67, message, sizeof(message));
}

/* What comes is of @type; the address it gives. */
static inline uint32_t dhcp_receive(struct stack *stack, uint8_t type)
{
	const uint8_t *message, *option;
	uint32_t len;

	assert_true(stack_wait_ip(stack, IPPROTO_UDP, 68, DRIVER_TIMEOUT_MS));
	message = stack_udp_data(stack, &len);
	assert_memory_equal(message + 4, "\1\2\3\4", 4);
	option = dhcp_option(message, len, 53);
	assert_non_null(option);
	assert_int_equal(option[1], type);
	return get32(message + 16);
}

/* The whole of it: from now on we have an address, a mask, a gateway and a name server. */
static inline void stack_dhcp(struct stack *stack)
{
	uint32_t offered, server, len;
	const uint8_t *message, *option;

	dhcp_send(stack, DHCP_DISCOVER, 0, 0);
	offered = dhcp_receive(stack, DHCP_OFFER);
	message = stack_udp_data(stack, &len);
	option = dhcp_option(message, len, 54);
	assert_non_null(option);
	server = get32(option + 1);
	dhcp_send(stack, DHCP_REQUEST, offered, server);
	stack->address = dhcp_receive(stack, DHCP_ACK);
	assert_int_equal(stack->address, offered);
	message = stack_udp_data(stack, &len);
	option = dhcp_option(message, len, 1);
	assert_non_null(option);
	stack->mask = get32(option + 1);
	option = dhcp_option(message, len, 3);
	stack->gateway = option ? get32(option + 1) : 0;
	option = dhcp_option(message, len, 6);
	stack->dns = option ? get32(option + 1) : 0;
	option = dhcp_option(message, len, 12);
	if (option)
		memcpy(stack->hostname, option + 1, MIN(option[0], sizeof(stack->hostname) - 1));
}

/* ---- TCP, a segment at a time ---- */

/* @flags as in the header's 14th byte; @ours, @theirs: the next byte of each side. */
struct stack_tcp {
	uint32_t to;
	uint16_t from_port, to_port;
	uint32_t ours, theirs;
};

static inline void stack_send_tcp(struct stack *stack, struct stack_tcp *tcp, uint8_t flags,
				  const void *data, uint32_t len)
{
	uint8_t segment[STACK_BUFFER] = { 0 };

	put16(segment, tcp->from_port);
	put16(segment + 2, tcp->to_port);
	put32(segment + 4, tcp->ours);
	put32(segment + 8, tcp->theirs);
	segment[12] = 5 << 4;
	segment[13] = flags;
	put16(segment + 14, 8192);
	if (len)
		memcpy(segment + 20, data, len);
	stack_send_ip(stack, tcp->to, IPPROTO_TCP, segment, 20 + len, 16);
	tcp->ours += len + !!(flags & (TH_SYN | TH_FIN));
}

/* The next segment for @tcp with all of @flags; ARP is answered meanwhile. Its data's length. */
static inline uint32_t stack_wait_tcp(struct stack *stack, struct stack_tcp *tcp, uint8_t flags,
				      const uint8_t **data)
{
	const uint8_t *ip = stack->frame + ETH_HLEN, *segment = ip + sizeof(struct iphdr);

	for (int i = 0; i < 100 && stack_receive(stack, DRIVER_TIMEOUT_MS); i++) {
		uint32_t len, header;

		if (stack_is_arp(stack, 1))
			stack_answer_arp(stack);
		if (!stack_is_ip(stack, IPPROTO_TCP, tcp->from_port) ||
		    (segment[13] & flags) != flags)
			continue;
		header = (segment[12] >> 4) * 4u;
		len = (uint32_t)(ip[2] << 8 | ip[3]) - (uint32_t)sizeof(struct iphdr) - header;
		tcp->to = get32(ip + 12);
		tcp->to_port = (uint16_t)(segment[0] << 8 | segment[1]);
		tcp->theirs = get32(segment + 4) + len + !!(segment[13] & (TH_SYN | TH_FIN));
		*data = segment + header;
		return len;
	}
	fail_msg("no TCP segment with flags %x", flags);
	return 0;
}

#endif
