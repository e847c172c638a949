// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0)
/*
 * Ends UDP sockets that are connected to an endpoint which has gone: they never ask again where to send, and would talk to
 * nobody for ever (P30). What they get is ECONNABORTED, upon which applications connect anew.
 *
 * The first program finds the network namespaces where there are such sockets, through the sockets' own storage, wherever
 * they are; the second is run inside each of these, because the kernel lets sockets be ended only by who walks them there.
 */
#include <stdbool.h>
#include <stddef.h>

#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "kernel-types.h"
#include "peers.h"

/* Endpoints that service ports have lost in the change that is being made. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_GONE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct gone);
	__type(value, __u32);
} gone SEC(".maps");

/* Linux 6.5. */
extern int bpf_sock_destroy(struct sock_common *sk) __attribute__((section(".ksyms")));

static __always_inline bool has_lost_its_endpoint(const struct peer *peer)
{
	struct gone key = {};

	if (!peer->connected)
		return false;
	key.backend = peer->backend;
	key.service = peer->service_id;
	return bpf_map_lookup_elem(&gone, &key) != NULL;
}

/* Writes the number of the socket's network namespace, as in /proc/PID/ns/net. */
SEC("iter/bpf_sk_storage_map")
int octo_find(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock *sk = ctx->sk;
	const struct peer *value = ctx->value;
	struct peer peer;
	__u32 netns;

	if (!sk || !value)
		return 0;
	peer = *value;
	if (!has_lost_its_endpoint(&peer))
		return 0;
	netns = sk->__sk_common.skc_net.net->ns.inum;
	bpf_seq_write(ctx->meta->seq, &netns, sizeof(netns));
	return 0;
}

/* Writes a byte for each socket that it ended. */
SEC("iter/udp")
int octo_end(struct bpf_iter__udp *ctx)
{
	struct udp_sock *sk = ctx->udp_sk;
	const struct peer *peer;
	__u8 one = 1;

	if (!sk)
		return 0;
	peer = bpf_sk_storage_get(&udp_peers, (void *)sk, NULL, 0);
	if (!peer || !has_lost_its_endpoint(peer))
		return 0;
	if (!bpf_sock_destroy((struct sock_common *)sk))
		bpf_seq_write(ctx->meta->seq, &one, sizeof(one));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
