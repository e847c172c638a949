/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
#ifndef OCTOPLANE_FORWARD_H
#define OCTOPLANE_FORWARD_H

#include "answers.h"

/* Sending a translated packet on its way, with what a router owes it: a lower TTL, and errors when it cannot go on. */

static __always_inline long find_route(struct __sk_buff *skb, const struct packet *packet, const struct tuple *to,
				       struct bpf_fib_lookup *fib)
{
	fib->ifindex = skb->ifindex;
	if (!skb->gso_size)
		fib->tot_len = packet->l3_bytes;
	if (packet->ipv6) {
		fib->family = AF_INET6;
		__builtin_memcpy(fib->ipv6_src, &to->src, 16);
		__builtin_memcpy(fib->ipv6_dst, &to->dst, 16);
	} else {
		fib->family = AF_INET;
		fib->ipv4_src = to->src.word[3];
		fib->ipv4_dst = to->dst.word[3];
	}
	return bpf_fib_lookup(skb, fib, sizeof(*fib), 0);
}

/* The lookup has left the address of the next hop where the destination was. */
static __always_inline int redirect_to(const struct packet *packet, const struct bpf_fib_lookup *fib)
{
	struct bpf_redir_neigh hop = { .nh_family = fib->family };

	if (packet->ipv6)
		__builtin_memcpy(hop.ipv6_nh, fib->ipv6_dst, 16);
	else
		hop.ipv4_nh = fib->ipv4_dst;
	return bpf_redirect_neigh(fib->ifindex, &hop, sizeof(hop), 0);
}

static __always_inline bool has_next_hop(long route)
{
	return route == BPF_FIB_LKUP_RET_SUCCESS || route == BPF_FIB_LKUP_RET_NO_NEIGH;
}

/* An ICMP error that has been translated: about it no other is sent (RFC 1122, 3.2.2). */
static __noinline int redirect(struct __sk_buff *skb, const struct packet *packet, const struct tuple *to)
{
	struct bpf_fib_lookup fib = {};
	long route = find_route(skb, packet, to, &fib);

	if (route == BPF_FIB_LKUP_RET_NOT_FWDED)
		return PASS;
	if (!has_next_hop(route) || packet->ttl <= 1 || set_ttl(skb, packet, packet->ttl - 1))
		return DROP;
	return redirect_to(packet, &fib);
}

/*
 * Packets with a source on the node cannot pass its stack, which takes them for forged; they go straight to the device that
 * the routes name.
 */
static __noinline int forward(struct __sk_buff *skb, const struct packet *packet, const struct tuple *to, bool leaving)
{
	struct bpf_fib_lookup fib = { .l4_protocol = packet->tuple.protocol };
	long route = find_route(skb, packet, to, &fib);

	if (route == BPF_FIB_LKUP_RET_NOT_FWDED)
		/* To the node itself. */
		return rewrite(skb, packet, to) ? DROP : PASS;
	if (packet->ttl <= 1)
		return answer_error(skb, packet, TTL_EXCEEDED, 0, leaving);
	if (route == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return answer_error(skb, packet, TOO_BIG, fib.mtu_result, leaving);
	if (!has_next_hop(route) || set_ttl(skb, packet, packet->ttl - 1) || rewrite(skb, packet, to))
		return DROP;
	return redirect_to(packet, &fib);
}

#endif
