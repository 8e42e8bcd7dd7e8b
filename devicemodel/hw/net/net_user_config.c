/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The options of the user back end: net=, dns=, hostname=, hostfwd=.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "net_user.h"

#define NETWORK_DEFAULT "10.0.2.0/24"
#define BITS_MIN 8
#define BITS_MAX 27 /* the addresses below, and those that DHCP gives out behind the last */
#define HOST_GATEWAY 2
#define HOST_DNS 3
#define HOST_DHCP 15
#define HOSTNAME_MAX 32 /* libslirp keeps no more */

static int refuse(const struct net_backend *net, const char *option, const char *value,
		  const char *why)
{
	log_error(net->log, "%s: %s=%s: %s", net->what, option, value, why);
	return -EINVAL;
}

/* A whole decimal number in [@min, @max]. */
static bool parse_number(const char *text, unsigned long min, unsigned long max,
			 unsigned long *value)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*value = strtoul(text, &end, 10);
	return !errno && !*end && *value >= min && *value <= max;
}

/* ---- net=, dns=, hostname= ---- */

static struct in_addr address_in(const struct net_user_config *parsed, uint32_t host)
{
	return (struct in_addr) { htonl(ntohl(parsed->network.s_addr) | host) };
}

static int parse_network(const struct net_backend *net, const char *value,
			 struct net_user_config *parsed)
{
	char address[INET_ADDRSTRLEN] = "";
	const char *slash = strchr(value, '/');
	unsigned long bits;

	if (slash && (size_t)(slash - value) < sizeof(address))
		memcpy(address, value, (size_t)(slash - value));
	if (!slash || inet_pton(AF_INET, address, &parsed->network) != 1 ||
	    !parse_number(slash + 1, 0, 32, &bits))
		return refuse(net, "net", value,
			      "not a network (give ADDRESS/BITS, as in " NETWORK_DEFAULT ")");
	if (bits < BITS_MIN || bits > BITS_MAX)
		return refuse(
			net, "net", value,
			"too large or too small a network (use 8 to 27 bits, as in " NETWORK_DEFAULT
			")");
	parsed->mask.s_addr = htonl(UINT32_MAX << (32 - bits));
	if (parsed->network.s_addr & ~parsed->mask.s_addr)
		return refuse(net, "net", value,
			      "the address has bits behind the network's (make them 0, as "
			      "in " NETWORK_DEFAULT ")");
	parsed->gateway = address_in(parsed, HOST_GATEWAY);
	parsed->dns = address_in(parsed, HOST_DNS);
	parsed->dhcp_start = address_in(parsed, HOST_DHCP);
	return 0;
}

/* An address in the network stands for the host's name server, any other for itself. */
static int parse_dns(const struct net_backend *net, const struct net_config *config,
		     struct net_user_config *parsed)
{
	bool inside;

	if (inet_pton(AF_INET, config->dns, &parsed->dns) != 1)
		return refuse(net, "dns", config->dns,
			      "not an IPv4 address (give one as in dns=10.0.2.3)");
	inside = (parsed->dns.s_addr & parsed->mask.s_addr) == parsed->network.s_addr;
	if (parsed->dns.s_addr == parsed->gateway.s_addr)
		return refuse(net, "dns", config->dns,
			      "this address is the gateway's (use another one)");
	if (!inside && config->restricted)
		return refuse(net, "dns", config->dns,
			      "cannot be reached with restrict=on (use an address inside net=, or "
			      "drop restrict)");
	return 0;
}

static int check_hostname(const struct net_backend *net, const char *name)
{
	size_t len = strlen(name);

	if (len && len <= HOSTNAME_MAX)
		return 0;
	return refuse(net, "hostname", name, "use 1 to 32 characters");
}

/* ---- hostfwd= ---- */

/* "[ADDRESS]:PORT" */
static bool parse_endpoint(char *text, struct in_addr none, struct in_addr *addr, uint16_t *port)
{
	char *colon = strrchr(text, ':');
	unsigned long number;

	if (!colon || !parse_number(colon + 1, 1, UINT16_MAX, &number))
		return false;
	*colon = '\0';
	*port = (uint16_t)number;
	*addr = none;
	return !*text || inet_pton(AF_INET, text, addr) == 1;
}

/* "tcp|udp:[ADDRESS]:PORT-[ADDRESS]:PORT", which is changed. */
static bool parse_forward(char *text, const struct net_user_config *parsed,
			  struct net_user_forward *forward)
{
	const struct in_addr any = { htonl(INADDR_ANY) };
	char *dash = strchr(text, '-');

	if (!dash || (strncmp(text, "tcp:", 4) != 0 && strncmp(text, "udp:", 4) != 0))
		return false;
	*dash = '\0';
	forward->udp = text[0] == 'u';
	return parse_endpoint(text + 4, any, &forward->host_addr, &forward->host_port) &&
	       parse_endpoint(dash + 1, parsed->dhcp_start, &forward->guest_addr,
			      &forward->guest_port);
}

static int parse_forwards(const struct net_backend *net, const char *value,
			  struct net_user_config *parsed)
{
	while (value) {
		struct net_user_forward *forward = &parsed->forwards[parsed->forward_count];
		size_t len = strcspn(value, "+");
		char text[sizeof(forward->text)];

		if (parsed->forward_count == NET_USER_FORWARDS_MAX)
			return refuse(net, "hostfwd", value, "more than 64 (use fewer)");
		snprintf(text, sizeof(text), "%.*s", (int)len, value);
		memcpy(forward->text, text, sizeof(text));
		if (len >= sizeof(text) || !parse_forward(text, parsed, forward))
			return refuse(net, "hostfwd", forward->text,
				      "not a forwarding (give tcp:[ADDRESS]:PORT-[ADDRESS]:PORT, "
				      "as in tcp:127.0.0.1:2222-:22; join several by +)");
		parsed->forward_count++;
		value = value[len] ? value + len + 1 : NULL;
	}
	return 0;
}

int net_user_config_parse(const struct net_backend *net, const struct net_config *config,
			  struct net_user_config *parsed)
{
	int error = parse_network(net, config->network ? config->network : NETWORK_DEFAULT, parsed);

	if (!error && config->dns)
		error = parse_dns(net, config, parsed);
	if (!error && config->hostname)
		error = check_hostname(net, config->hostname);
	if (!error && config->hostfwd)
		error = parse_forwards(net, config->hostfwd, parsed);
	return error;
}
