/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
#ifndef OCTOPLANE_PEERS_H
#define OCTOPLANE_PEERS_H

#include "choose.h"

/* What each socket was told it talks to. */

/* Of TCP sockets. Lives and dies with the socket: nothing to evict, nothing to clean up. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct peer);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} peers SEC(".maps");

/* Of UDP sockets: apart, so that those whose endpoint has gone are found without a look at every connection. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct peer);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} udp_peers SEC(".maps");

/* The services behind the answers of a UDP socket that talks to several; the last one is in `peers`. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_UDP_REPLIES);
	__type(key, struct udp_reply_key);
	__type(value, struct endpoint);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} udp_replies SEC(".maps");

static __always_inline bool same_endpoint(const struct endpoint *a, const struct endpoint *b)
{
	return a->port == b->port && same_address(&a->address, &b->address);
}

static __always_inline struct peer *peer_of(struct bpf_sock_addr *ctx, __u64 flags)
{
	struct bpf_sock *sk = ctx->sk;

	if (!sk)
		return NULL;
	if (ctx->protocol == IPPROTO_UDP)
		return bpf_sk_storage_get(&udp_peers, sk, NULL, flags);
	return bpf_sk_storage_get(&peers, sk, NULL, flags);
}

/* A socket that is connected elsewhere must not show the service that it was connected to before. */
static __always_inline void forget_peer(struct bpf_sock_addr *ctx, bool sending)
{
	struct bpf_sock *sk = ctx->sk;

	if (sending || !sk)
		return;
	if (ctx->protocol == IPPROTO_UDP)
		bpf_sk_storage_delete(&udp_peers, sk);
	else
		bpf_sk_storage_delete(&peers, sk);
}

static __always_inline void set_peer(struct bpf_sock_addr *ctx, const struct frontend *frontend,
				     const struct endpoint *to, const struct backend *backend, bool sending)
{
	struct peer *peer = peer_of(ctx, BPF_SK_STORAGE_GET_F_CREATE);
	struct udp_reply_key key = {};

	if (peer) {
		peer->service = *to;
		peer->backend.address = backend->address;
		peer->backend.port = backend->port;
		peer->backend.protocol = to->protocol;
		peer->service_id = frontend->service;
		peer->generation = frontend->generation;
		peer->connected = !sending;
	}
	if (!sending)
		return;
	key.cookie = bpf_get_socket_cookie(ctx);
	key.backend.address = backend->address;
	key.backend.port = backend->port;
	bpf_map_update_elem(&udp_replies, &key, to, BPF_ANY);
}

/* Sends a datagram to where the last one went, if it is to the same service and that backend may still be chosen. */
static __always_inline bool keep_peer(struct bpf_sock_addr *ctx, const struct frontend *frontend, struct endpoint *to)
{
	struct peer *peer = peer_of(ctx, 0);

	if (!peer || peer->service_id != frontend->service || !same_endpoint(&peer->service, to))
		return false;
	if (peer->generation != frontend->generation) {
		if (find_backend(&frontend->inside, &peer->backend) < 0)
			return false;
		peer->generation = frontend->generation;
	}
	to->address = peer->backend.address;
	to->port = peer->backend.port;
	return true;
}

static __always_inline bool show_service(struct bpf_sock_addr *ctx, struct endpoint *from)
{
	const struct peer *peer = peer_of(ctx, 0);
	struct udp_reply_key key = {};
	const struct endpoint *service;

	if (!peer)
		return false;
	if (same_endpoint(&peer->backend, from)) {
		*from = peer->service;
		return true;
	}
	if (from->protocol != IPPROTO_UDP)
		return false;
	key.cookie = bpf_get_socket_cookie(ctx);
	key.backend.address = from->address;
	key.backend.port = from->port;
	service = bpf_map_lookup_elem(&udp_replies, &key);
	if (!service)
		return false;
	*from = *service;
	return true;
}

#endif
