// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0)
/*
 * Sockets of this node's cgroup. A connection to a service becomes one to a backend before its first packet exists, so
 * that nothing is left to do on the packet path; what the application asks for afterwards still shows the service.
 *
 * Promises:
 *   1. A destination that is no service is left as it is.
 *   2. A service without a usable endpoint refuses at once: ECONNREFUSED, for TCP and UDP alike (P14).
 *   3. An unconnected UDP socket keeps its backend for as long as that backend may be chosen.
 *   4. A port of the node that is a node port cannot be bound by a process of the node: EADDRINUSE.
 *   5. Once retired, only unconnected UDP sockets that have a backend keep it; everything new is left alone.
 */
#include <stdbool.h>
#include <stddef.h>

#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "choose.h"
#include "counts.h"
#include "peers.h"

#define ALLOW 1
#define DENY 0

enum outcome {
	/* Not for us. */
	LEFT_ALONE,
	/* The destination has been replaced. */
	REPLACED,
	REFUSED,
};

static __always_inline bool in_host_netns(struct bpf_sock_addr *ctx)
{
	__u32 zero = 0;
	const struct config *cfg = bpf_map_lookup_elem(&config, &zero);

	return cfg && bpf_get_netns_cookie(ctx) == cfg->host_netns;
}

/* The frontend of a destination; a node port when the address is one of this node's. */
static __always_inline enum outcome find_service(struct bpf_sock_addr *ctx, const struct endpoint *to,
						 struct frontend *frontend)
{
	const struct address_roles *roles;
	struct endpoint key = *to;

	if (find_frontend(to, frontend))
		return REPLACED;
	roles = bpf_map_lookup_elem(&addresses, &to->address);
	if (!roles)
		return LEFT_ALONE;
	if (roles->roles & ROLE_CLUSTER_IP)
		return REFUSED;
	if (!(roles->roles & ROLE_NODE) && !(roles->roles & ROLE_LOOPBACK && in_host_netns(ctx)))
		return LEFT_ALONE;
	if (is_ipv4(&to->address))
		key.address.word[3] = 0;
	else
		__builtin_memset(&key.address, 0, sizeof(key.address));
	return find_frontend(&key, frontend) ? REPLACED : LEFT_ALONE;
}

/* Clients are told apart by their network namespace: before connect() a socket has no address. */
static __always_inline void affinity_key_of(struct bpf_sock_addr *ctx, const struct frontend *frontend,
					    const struct endpoint *to, struct affinity_key *key)
{
	key->client.half[0] = ~0ULL;
	key->client.half[1] = bpf_get_netns_cookie(ctx);
	key->service = frontend->service;
	key->family = is_ipv4(&to->address) ? 4 : 6;
}

static __always_inline const struct backend *choose(struct bpf_sock_addr *ctx, const struct frontend *frontend,
						     const struct endpoint *to, __u32 random)
{
	const struct window *window = &frontend->inside;
	const struct backend *backend;
	struct affinity_key key = {};
	__u32 slot;

	if (!frontend->affinity_seconds)
		return backend_at(window, random, &slot);
	affinity_key_of(ctx, frontend, to, &key);
	backend = recall(frontend, window, &key);
	if (backend)
		return backend;
	backend = backend_at(window, random, &slot);
	if (backend)
		remember(frontend, &key, slot, backend);
	return backend;
}

static __always_inline enum outcome replace(struct bpf_sock_addr *ctx, struct endpoint *to, bool sending)
{
	struct frontend frontend;
	const struct backend *backend;
	enum outcome outcome = find_service(ctx, to, &frontend);
	bool retired = is_retired();
	__u32 random;

	if (outcome != REPLACED || (retired && !sending)) {
		forget_peer(ctx, sending);
		return retired ? LEFT_ALONE : outcome;
	}
	/* Source ranges need the client's address, and masquerading changes it: only its packets have one. */
	if (frontend.flags & (FRONTEND_RANGES | FRONTEND_PACKETS))
		return LEFT_ALONE;
	if (!frontend.inside.count)
		return retired || frontend.flags & FRONTEND_DROP_INSIDE ? LEFT_ALONE : REFUSED;
	if (sending && keep_peer(ctx, &frontend, to))
		return REPLACED;
	if (retired)
		return LEFT_ALONE;
	/* Unconnected sockets that talk to several services in turn come back to the same backend of each. */
	random = sending ? (__u32)bpf_get_socket_cookie(ctx) * 2654435761U >> 8 : bpf_get_prandom_u32();
	backend = choose(ctx, &frontend, to, random);
	if (!backend)
		return REFUSED;
	set_peer(ctx, &frontend, to, backend, sending);
	count_connection(frontend.service, &backend->address, backend->port);
	to->address = backend->address;
	to->port = backend->port;
	return REPLACED;
}

static __always_inline int translate4(struct bpf_sock_addr *ctx, bool sending)
{
	struct endpoint to = { .port = ctx->user_port, .protocol = ctx->protocol };

	if (to.protocol != IPPROTO_TCP && to.protocol != IPPROTO_UDP)
		return ALLOW;
	set_ipv4(&to.address, ctx->user_ip4);
	switch (replace(ctx, &to, sending)) {
	case REPLACED:
		ctx->user_ip4 = to.address.word[3];
		ctx->user_port = to.port;
		return ALLOW;
	case REFUSED:
		bpf_set_retval(-ECONNREFUSED);
		return DENY;
	default:
		return ALLOW;
	}
}

static __always_inline int translate6(struct bpf_sock_addr *ctx, bool sending)
{
	struct endpoint to = { .port = ctx->user_port, .protocol = ctx->protocol };

	if (to.protocol != IPPROTO_TCP && to.protocol != IPPROTO_UDP)
		return ALLOW;
	to.address.word[0] = ctx->user_ip6[0];
	to.address.word[1] = ctx->user_ip6[1];
	to.address.word[2] = ctx->user_ip6[2];
	to.address.word[3] = ctx->user_ip6[3];
	switch (replace(ctx, &to, sending)) {
	case REPLACED:
		ctx->user_ip6[0] = to.address.word[0];
		ctx->user_ip6[1] = to.address.word[1];
		ctx->user_ip6[2] = to.address.word[2];
		ctx->user_ip6[3] = to.address.word[3];
		ctx->user_port = to.port;
		return ALLOW;
	case REFUSED:
		bpf_set_retval(-ECONNREFUSED);
		return DENY;
	default:
		return ALLOW;
	}
}

/* Shows the service in place of the backend that an answer came from, or that the socket is connected to. */
static __always_inline int show4(struct bpf_sock_addr *ctx)
{
	struct endpoint from = { .port = ctx->user_port, .protocol = ctx->protocol };

	set_ipv4(&from.address, ctx->user_ip4);
	if (show_service(ctx, &from)) {
		ctx->user_ip4 = from.address.word[3];
		ctx->user_port = from.port;
	}
	return ALLOW;
}

static __always_inline int show6(struct bpf_sock_addr *ctx)
{
	struct endpoint from = { .port = ctx->user_port, .protocol = ctx->protocol };

	from.address.word[0] = ctx->user_ip6[0];
	from.address.word[1] = ctx->user_ip6[1];
	from.address.word[2] = ctx->user_ip6[2];
	from.address.word[3] = ctx->user_ip6[3];
	if (show_service(ctx, &from)) {
		ctx->user_ip6[0] = from.address.word[0];
		ctx->user_ip6[1] = from.address.word[1];
		ctx->user_ip6[2] = from.address.word[2];
		ctx->user_ip6[3] = from.address.word[3];
		ctx->user_port = from.port;
	}
	return ALLOW;
}

/* Whatever address the process names: a node port answers on all of them, and a v6 socket may serve IPv4 too. */
static __always_inline int guard_bind(struct bpf_sock_addr *ctx, bool ipv6)
{
	struct endpoint key = { .port = ctx->user_port, .protocol = ctx->protocol };

	if (!key.port || !in_host_netns(ctx) || is_retired())
		return ALLOW;
	if (ipv6 && bpf_map_lookup_elem(&frontends, &key))
		goto refuse;
	set_ipv4(&key.address, 0);
	if (!bpf_map_lookup_elem(&frontends, &key))
		return ALLOW;
refuse:
	bpf_set_retval(-EADDRINUSE);
	return DENY;
}

SEC("cgroup/connect4")
int octo_connect4(struct bpf_sock_addr *ctx)
{
	return translate4(ctx, false);
}

SEC("cgroup/connect6")
int octo_connect6(struct bpf_sock_addr *ctx)
{
	return translate6(ctx, false);
}

SEC("cgroup/sendmsg4")
int octo_sendmsg4(struct bpf_sock_addr *ctx)
{
	return translate4(ctx, true);
}

SEC("cgroup/sendmsg6")
int octo_sendmsg6(struct bpf_sock_addr *ctx)
{
	return translate6(ctx, true);
}

SEC("cgroup/recvmsg4")
int octo_recvmsg4(struct bpf_sock_addr *ctx)
{
	return show4(ctx);
}

SEC("cgroup/recvmsg6")
int octo_recvmsg6(struct bpf_sock_addr *ctx)
{
	return show6(ctx);
}

SEC("cgroup/getpeername4")
int octo_peername4(struct bpf_sock_addr *ctx)
{
	return show4(ctx);
}

SEC("cgroup/getpeername6")
int octo_peername6(struct bpf_sock_addr *ctx)
{
	return show6(ctx);
}

SEC("cgroup/bind4")
int octo_bind4(struct bpf_sock_addr *ctx)
{
	return guard_bind(ctx, false);
}

SEC("cgroup/bind6")
int octo_bind6(struct bpf_sock_addr *ctx)
{
	return guard_bind(ctx, true);
}

/* bpf_loop and the socket helpers are for programs under the GPL; the sources are under either licence. */
char LICENSE[] SEC("license") = "Dual BSD/GPL";
