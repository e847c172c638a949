/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
#ifndef OCTOPLANE_REWRITE_H
#define OCTOPLANE_REWRITE_H

#include <bpf/bpf_core_read.h>

#include "crc32c.h"
#include "kernel-types.h"
#include "workspace.h"

/* Changing packets, with their checksums. Every function returns 0, or an error after which the packet must be dropped. */

#define L4_CHECKSUM_OFFSET(protocol) ((protocol) == IPPROTO_TCP ? 16 : 6)
#define SCTP_CHECKSUM_OFFSET 8
#define CHECKSUM_PARTIAL 3

/* Linux 6.2. */
extern void *bpf_cast_to_kern_ctx(void *context) __attribute__((section(".ksyms")));

static __always_inline int set_addresses(struct __sk_buff *skb, const struct packet *packet, const struct tuple *to)
{
	const struct tuple *from = &packet->tuple;
	__be32 old_words[8], new_words[8];
	__u32 flags = BPF_F_PSEUDO_HDR | (from->protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0);
	__u32 checksum = packet->l4 + L4_CHECKSUM_OFFSET(from->protocol);
	/* The device's sum of the whole packet, where it made one: no change of a transport checksum cancels this one. */
	__u64 recompute = from->protocol == IPPROTO_SCTP ? BPF_F_RECOMPUTE_CSUM : 0;
	__s64 difference;

	if (packet->ipv6) {
		__builtin_memcpy(old_words, &from->src, 32);
		__builtin_memcpy(new_words, &to->src, 32);
		difference = bpf_csum_diff(old_words, 32, new_words, 32, 0);
		if (bpf_skb_store_bytes(skb, L3 + offsetof(struct ipv6hdr, saddr), new_words, 32, recompute))
			return -1;
	} else {
		old_words[0] = from->src.word[3];
		old_words[1] = from->dst.word[3];
		new_words[0] = to->src.word[3];
		new_words[1] = to->dst.word[3];
		difference = bpf_csum_diff(old_words, 8, new_words, 8, 0);
		if (bpf_l3_csum_replace(skb, L3 + offsetof(struct iphdr, check), 0, difference, 0) ||
		    bpf_skb_store_bytes(skb, L3 + offsetof(struct iphdr, saddr), new_words, 8, 0))
			return -1;
	}
	/* Only the first fragment has a transport checksum, and SCTP's does not cover addresses. */
	if (packet->part == LATER_FRAGMENT || from->protocol == IPPROTO_SCTP)
		return 0;
	return bpf_l4_csum_replace(skb, checksum, 0, difference, flags);
}

/* Is the checksum left to the device that the packet leaves by? Then it is not there yet, and will be of what the packet is then. */
static __always_inline bool checksum_is_to_come(struct __sk_buff *skb)
{
	struct sk_buff *kernel_skb = bpf_cast_to_kern_ctx(skb);

	return BPF_CORE_READ_BITFIELD(kernel_skb, ip_summed) == CHECKSUM_PARTIAL;
}

static __always_inline int set_sctp_ports(struct __sk_buff *skb, const struct packet *packet, __be32 old_ports,
					  __be32 new_ports)
{
	__u32 at = packet->l4 + SCTP_CHECKSUM_OFFSET;
	__u32 bytes = packet->l3_bytes + L3 - packet->l4;
	__le32 checksum;

	if (bpf_skb_store_bytes(skb, packet->l4, &new_ports, sizeof(new_ports), BPF_F_RECOMPUTE_CSUM))
		return -1;
	if (checksum_is_to_come(skb))
		return 0;
	if (bpf_skb_load_bytes(skb, at, &checksum, sizeof(checksum)))
		return -1;
	checksum ^= crc32c_difference(old_ports ^ new_ports, bytes);
	return bpf_skb_store_bytes(skb, at, &checksum, sizeof(checksum), BPF_F_RECOMPUTE_CSUM);
}

static __always_inline int set_ports(struct __sk_buff *skb, const struct packet *packet, const struct tuple *to)
{
	const struct tuple *from = &packet->tuple;
	__be32 old_ports = from->sport | (__u32)from->dport << 16;
	__be32 new_ports = to->sport | (__u32)to->dport << 16;
	__u32 flags = from->protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;

	if (old_ports == new_ports || packet->part == LATER_FRAGMENT)
		return 0;
	if (from->protocol == IPPROTO_SCTP)
		return set_sctp_ports(skb, packet, old_ports, new_ports);
	if (bpf_l4_csum_replace(skb, packet->l4 + L4_CHECKSUM_OFFSET(from->protocol), old_ports, new_ports, flags | 4))
		return -1;
	return bpf_skb_store_bytes(skb, packet->l4, &new_ports, sizeof(new_ports), 0);
}

static __noinline int rewrite(struct __sk_buff *skb, const struct packet *packet, const struct tuple *to)
{
	return set_addresses(skb, packet, to) || set_ports(skb, packet, to) ? -1 : 0;
}

static __always_inline int set_ttl(struct __sk_buff *skb, const struct packet *packet, __u8 ttl)
{
	/* The TTL shares a word with the protocol. */
	__be16 old_word = bpf_htons((__u16)packet->ttl << 8 | packet->tuple.protocol);
	__be16 new_word = bpf_htons((__u16)ttl << 8 | packet->tuple.protocol);

	if (packet->ipv6)
		return bpf_skb_store_bytes(skb, L3 + offsetof(struct ipv6hdr, hop_limit), &ttl, 1, 0);
	if (bpf_l3_csum_replace(skb, L3 + offsetof(struct iphdr, check), old_word, new_word, 2))
		return -1;
	return bpf_skb_store_bytes(skb, L3 + offsetof(struct iphdr, ttl), &ttl, 1, 0);
}

/* Where a packet that we turned around goes: out of the device that it came in by, or in by the one it was leaving. */
static __always_inline int send_back(struct __sk_buff *skb, bool leaving)
{
	__u8 macs[12], swapped[12];

	if (bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)))
		return DROP;
	__builtin_memcpy(swapped, macs + 6, 6);
	__builtin_memcpy(swapped + 6, macs, 6);
	if (bpf_skb_store_bytes(skb, 0, swapped, sizeof(swapped), 0))
		return DROP;
	return bpf_redirect(skb->ifindex, leaving ? BPF_F_INGRESS : 0);
}

static __always_inline __u16 fold(__s64 sum)
{
	sum = (sum & 0xffff) + ((sum >> 16) & 0xffff);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

#endif
