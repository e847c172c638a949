/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
#ifndef OCTOPLANE_INNER_H
#define OCTOPLANE_INNER_H

#include "flows.h"
#include "forward.h"

/*
 * ICMP errors about translated packets. The error quotes a packet as its sender never sent it: its tuple, reversed, is that of
 * the flow's other half, which says what the sender knows it by. The same rule serves both directions.
 */

#define INNER_BYTES4 (sizeof(struct iphdr) + 8)
#define INNER_BYTES6 (sizeof(struct ipv6hdr) + 8)

/* The quoted packet's tuple, reversed; false when it has no ports that can be read. */
static __always_inline bool reversed_inner(const __u8 *inner, bool ipv6, struct tuple *tuple)
{
	const __u8 *ports;

	if (ipv6) {
		const struct ipv6hdr *ip = (const void *)inner;

		tuple->protocol = ip->nexthdr;
		__builtin_memcpy(&tuple->src, &ip->daddr, 16);
		__builtin_memcpy(&tuple->dst, &ip->saddr, 16);
		ports = inner + sizeof(*ip);
	} else {
		const struct iphdr *ip = (const void *)inner;

		if (ip->ihl != 5 || ip->frag_off & bpf_htons(IP_OFFSET))
			return false;
		tuple->protocol = ip->protocol;
		set_ipv4(&tuple->src, ip->daddr);
		set_ipv4(&tuple->dst, ip->saddr);
		ports = inner + sizeof(*ip);
	}
	tuple->sport = *(const __be16 *)(ports + 2);
	tuple->dport = *(const __be16 *)ports;
	return has_ports(tuple->protocol);
}

/* The quote as the sender knows it: from where the flow's answers go, to where they seem to come from. */
static __always_inline void rewrite_inner(__u8 *inner, bool ipv6, const struct flow *flow)
{
	__u8 *ports;

	if (ipv6) {
		struct ipv6hdr *ip = (void *)inner;

		__builtin_memcpy(&ip->saddr, &flow->dst, 16);
		__builtin_memcpy(&ip->daddr, &flow->src, 16);
		ports = inner + sizeof(*ip);
	} else {
		struct iphdr *ip = (void *)inner;
		__be32 old_words[2] = { ip->saddr, ip->daddr };
		__be32 new_words[2] = { flow->dst.word[3], flow->src.word[3] };
		__s64 sum = bpf_csum_diff(old_words, 8, new_words, 8, (__u16)~ip->check);

		ip->check = fold(sum);
		ip->saddr = new_words[0];
		ip->daddr = new_words[1];
		ports = inner + sizeof(*ip);
	}
	*(__be16 *)ports = flow->dport;
	*(__be16 *)(ports + 2) = flow->sport;
}

static __always_inline int replace_inner4(struct __sk_buff *skb, const struct packet *packet, struct workspace *work,
					  struct tuple *key)
{
	const struct flow *flow;
	__s64 difference;

	if (bpf_skb_load_bytes(skb, packet->l4 + 8, work->inner, INNER_BYTES4) ||
	    !reversed_inner(work->inner, false, key))
		return 1;
	flow = bpf_map_lookup_elem(&flows, key);
	if (!flow)
		return 1;
	work->flow = *flow;
	__builtin_memcpy(work->changed, work->inner, INNER_BYTES4);
	rewrite_inner(work->changed, false, &work->flow);
	difference = bpf_csum_diff((__be32 *)work->inner, INNER_BYTES4, (__be32 *)work->changed, INNER_BYTES4, 0);
	return bpf_skb_store_bytes(skb, packet->l4 + 8, work->changed, INNER_BYTES4, 0) ||
			       bpf_l4_csum_replace(skb, packet->l4 + 2, 0, difference, 0) ?
		       -1 :
		       0;
}

static __always_inline int replace_inner6(struct __sk_buff *skb, const struct packet *packet, struct workspace *work,
					  struct tuple *key)
{
	const struct flow *flow;
	__s64 difference;

	if (bpf_skb_load_bytes(skb, packet->l4 + 8, work->inner, INNER_BYTES6) ||
	    !reversed_inner(work->inner, true, key))
		return 1;
	flow = bpf_map_lookup_elem(&flows, key);
	if (!flow)
		return 1;
	work->flow = *flow;
	__builtin_memcpy(work->changed, work->inner, INNER_BYTES6);
	rewrite_inner(work->changed, true, &work->flow);
	difference = bpf_csum_diff((__be32 *)work->inner, INNER_BYTES6, (__be32 *)work->changed, INNER_BYTES6, 0);
	return bpf_skb_store_bytes(skb, packet->l4 + 8, work->changed, INNER_BYTES6, 0) ||
			       bpf_l4_csum_replace(skb, packet->l4 + 2, 0, difference, 0) ?
		       -1 :
		       0;
}

/* ICMPv6's own checksum covers the outer addresses, ICMP's does not. */
static __always_inline int set_outer(struct __sk_buff *skb, const struct packet *packet, const struct tuple *to)
{
	__be32 old_words[8], new_words[8];
	__s64 difference;

	if (!packet->ipv6) {
		old_words[0] = packet->tuple.src.word[3];
		old_words[1] = packet->tuple.dst.word[3];
		new_words[0] = to->src.word[3];
		new_words[1] = to->dst.word[3];
		difference = bpf_csum_diff(old_words, 8, new_words, 8, 0);
		return bpf_l3_csum_replace(skb, L3 + offsetof(struct iphdr, check), 0, difference, 0) ||
		       bpf_skb_store_bytes(skb, L3 + offsetof(struct iphdr, saddr), new_words, 8, 0);
	}
	__builtin_memcpy(old_words, &packet->tuple.src, 32);
	__builtin_memcpy(new_words, &to->src, 32);
	difference = bpf_csum_diff(old_words, 32, new_words, 32, 0);
	return bpf_l4_csum_replace(skb, packet->l4 + 2, 0, difference, BPF_F_PSEUDO_HDR) ||
	       bpf_skb_store_bytes(skb, L3 + offsetof(struct ipv6hdr, saddr), new_words, 32, 0);
}

/*
 * An error about a packet of one of our flows goes to the flow's other end. `leaving`: it is on its way there, and only the
 * quote and the address of a backend that complains need to be replaced.
 */
static __noinline int translate_error(struct __sk_buff *skb, const struct packet *packet, bool leaving)
{
	struct tuple key = {}, outer = {};
	struct workspace *work = workspace();
	int replaced;

	if (!work)
		return PASS;
	replaced = packet->ipv6 ? replace_inner6(skb, packet, work, &key) : replace_inner4(skb, packet, work, &key);
	if (replaced)
		return replaced < 0 ? DROP : PASS;
	/* A backend that complains itself is hidden behind the service; a router on the way is not. */
	outer.src = same_address(&packet->tuple.src, &key.src) ? work->flow.src : packet->tuple.src;
	outer.dst = work->flow.dst;
	if (set_outer(skb, packet, &outer))
		return DROP;
	return leaving || !(work->flow.flags & FLOW_MASQUERADED) ? PASS : redirect(skb, packet, &outer);
}

#endif
