// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0)
/*
 * Lists the connections that sockets were led to directly, for the driver that comes after this one: conntrack has not seen how
 * they began, and would give their ports to others as long as they are silent.
 */
#include <stdbool.h>
#include <stddef.h>

#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "kernel-types.h"
#include "peers.h"

/* include/net/tcp_states.h; UDP sockets that are connected are established, too. */
#define TCP_ESTABLISHED 1
#define TCP_FIN_WAIT2 5
#define TCP_CLOSE_WAIT 8

/* Writes the tuple of what the client sends. Run over `peers` and over `udp_peers`. */
SEC("iter/bpf_sk_storage_map")
int octo_list(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock *sk = ctx->sk;
	const struct peer *peer = ctx->value;
	struct tuple tuple = {};
	__u8 state;

	if (!sk || !peer)
		return 0;
	state = sk->__sk_common.skc_state;
	if (!peer->connected || (state != TCP_ESTABLISHED && state != TCP_FIN_WAIT2 && state != TCP_CLOSE_WAIT))
		return 0;
	if (sk->__sk_common.skc_family == AF_INET)
		set_ipv4(&tuple.src, sk->__sk_common.skc_rcv_saddr);
	else
		bpf_probe_read_kernel(&tuple.src, sizeof(tuple.src), &sk->__sk_common.skc_v6_rcv_saddr);
	tuple.dst = peer->backend.address;
	tuple.sport = bpf_htons(sk->__sk_common.skc_num);
	tuple.dport = peer->backend.port;
	tuple.protocol = peer->backend.protocol;
	bpf_seq_write(ctx->meta->seq, &tuple, sizeof(tuple));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
