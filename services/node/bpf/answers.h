/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
#ifndef OCTOPLANE_ANSWERS_H
#define OCTOPLANE_ANSWERS_H

#include "rewrite.h"

/* Answers of our own: ICMP errors (RFC 792, RFC 4443), resets (RFC 9293) and echo replies. */

enum trouble { PORT_UNREACHABLE, TTL_EXCEEDED, TOO_BIG };

/* Quoted of the transport header. All 20 bytes of TCP, because a packet may not be cut off before a checksum that is still to be filled in. */
#define QUOTED_TCP 20
#define QUOTED 8

static __always_inline int error4(struct __sk_buff *skb, const struct packet *packet, enum trouble trouble, __u32 mtu,
				  struct workspace *work)
{
	struct error4 *head = &work->error4;
	__u8 *quote = work->quote;
	bool tcp = packet->tuple.protocol == IPPROTO_TCP;
	__u32 quoted = 20 + (tcp ? QUOTED_TCP : QUOTED);
	__s64 sum;

	__builtin_memset(head, 0, sizeof(*head));
	__builtin_memset(quote, 0, sizeof(work->quote));
	if (packet->l4 != L3 + 20 || bpf_skb_change_tail(skb, L3 + quoted, 0) ||
	    bpf_skb_load_bytes(skb, L3, quote, 20 + QUOTED) ||
	    (tcp && bpf_skb_load_bytes(skb, L3 + 20 + QUOTED, quote + 20 + QUOTED, QUOTED_TCP - QUOTED)))
		return -1;
	head->icmp.type = trouble == TTL_EXCEEDED ? ICMP_TIME_EXCEEDED : ICMP_DEST_UNREACH;
	head->icmp.code = trouble == PORT_UNREACHABLE ? ICMP_PORT_UNREACH : trouble == TOO_BIG ? ICMP_FRAG_NEEDED : 0;
	if (trouble == TOO_BIG)
		head->icmp.mtu = bpf_htons(mtu);
	/* Zeros behind a shorter quote add nothing to the sum. */
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&head->icmp, sizeof(head->icmp), 0);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)quote, 20 + QUOTED_TCP, sum);
	head->icmp.checksum = fold(sum);
	head->ip.version = 4;
	head->ip.ihl = 5;
	head->ip.ttl = 64;
	head->ip.protocol = IPPROTO_ICMP;
	head->ip.tot_len = bpf_htons(sizeof(*head) + quoted);
	head->ip.saddr = packet->tuple.dst.word[3];
	head->ip.daddr = packet->tuple.src.word[3];
	head->ip.check = fold(bpf_csum_diff(NULL, 0, (__be32 *)&head->ip, sizeof(head->ip), 0));
	if (bpf_skb_adjust_room(skb, sizeof(*head), BPF_ADJ_ROOM_MAC, 0))
		return -1;
	return bpf_skb_store_bytes(skb, L3, head, sizeof(*head), 0);
}

static __always_inline int error6(struct __sk_buff *skb, const struct packet *packet, enum trouble trouble, __u32 mtu,
				  struct workspace *work)
{
	struct error6 *head = &work->error6;
	__u8 *quote = work->quote;
	bool tcp = packet->tuple.protocol == IPPROTO_TCP;
	__u32 quoted = 40 + (tcp ? QUOTED_TCP : QUOTED);
	__be32 *pseudo = work->pseudo;
	__s64 sum;

	__builtin_memset(head, 0, sizeof(*head));
	__builtin_memset(quote, 0, sizeof(work->quote));
	if (packet->l4 != L3 + 40 || bpf_skb_change_tail(skb, L3 + quoted, 0) ||
	    bpf_skb_load_bytes(skb, L3, quote, 40 + QUOTED) ||
	    (tcp && bpf_skb_load_bytes(skb, L3 + 40 + QUOTED, quote + 40 + QUOTED, QUOTED_TCP - QUOTED)))
		return -1;
	head->icmp.icmp6_type = trouble == PORT_UNREACHABLE ? ICMPV6_DEST_UNREACH :
			       trouble == TTL_EXCEEDED	   ? ICMPV6_TIME_EXCEED :
							     ICMPV6_PKT_TOOBIG;
	head->icmp.icmp6_code = trouble == PORT_UNREACHABLE ? ICMPV6_PORT_UNREACH : 0;
	if (trouble == TOO_BIG)
		head->icmp.icmp6_mtu = bpf_htonl(mtu);
	head->ip.version = 6;
	head->ip.hop_limit = 64;
	head->ip.nexthdr = IPPROTO_ICMPV6;
	head->ip.payload_len = bpf_htons(sizeof(head->icmp) + quoted);
	__builtin_memcpy(&head->ip.saddr, &packet->tuple.dst, 16);
	__builtin_memcpy(&head->ip.daddr, &packet->tuple.src, 16);
	__builtin_memcpy(pseudo, &packet->tuple.src, 32);
	pseudo[8] = bpf_htonl(sizeof(head->icmp) + quoted);
	pseudo[9] = bpf_htonl(IPPROTO_ICMPV6);
	sum = bpf_csum_diff(NULL, 0, pseudo, sizeof(work->pseudo), 0);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&head->icmp, sizeof(head->icmp), sum);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)quote, 40 + QUOTED_TCP, sum);
	head->icmp.icmp6_cksum = fold(sum);
	if (bpf_skb_adjust_room(skb, sizeof(*head), BPF_ADJ_ROOM_MAC, 0))
		return -1;
	return bpf_skb_store_bytes(skb, L3, head, sizeof(*head), 0);
}

/* Turns the packet into an error about itself, from the address that it was sent to. */
static __noinline int answer_error(struct __sk_buff *skb, const struct packet *packet, enum trouble trouble, __u32 mtu,
				   bool leaving)
{
	struct workspace *work = workspace();
	int failed;

	/* An error about a fragment but the first is never sent (RFC 1122, 3.2.2), nor one that we cannot build. */
	if (!work || packet->part == LATER_FRAGMENT)
		return DROP;
	failed = packet->ipv6 ? error6(skb, packet, trouble, mtu, work) : error4(skb, packet, trouble, mtu, work);
	return failed ? DROP : send_back(skb, leaving);
}

static __always_inline bool is_echo_request(const struct packet *packet)
{
	if (packet->ipv6)
		return packet->tuple.protocol == IPPROTO_ICMPV6 && packet->icmp_type == ICMPV6_ECHO_REQUEST;
	return packet->tuple.protocol == IPPROTO_ICMP && packet->icmp_type == ICMP_ECHO;
}

static __always_inline bool is_error(const struct packet *packet)
{
	__u8 type = packet->icmp_type;

	if (packet->ipv6)
		return packet->tuple.protocol == IPPROTO_ICMPV6 && type < 128;
	return packet->tuple.protocol == IPPROTO_ICMP &&
	       (type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB);
}

/* Swapped addresses leave every sum as it is. */
static __always_inline int swap_addresses(struct __sk_buff *skb, const struct packet *packet)
{
	if (packet->ipv6)
		return bpf_skb_store_bytes(skb, L3 + offsetof(struct ipv6hdr, saddr), &packet->tuple.dst, 16, 0) ||
		       bpf_skb_store_bytes(skb, L3 + offsetof(struct ipv6hdr, daddr), &packet->tuple.src, 16, 0);
	return bpf_skb_store_bytes(skb, L3 + offsetof(struct iphdr, saddr), &packet->tuple.dst.word[3], 4, 0) ||
	       bpf_skb_store_bytes(skb, L3 + offsetof(struct iphdr, daddr), &packet->tuple.src.word[3], 4, 0);
}

/*
 * Turns a SYN into its refusal. Not an ICMP error, which a client that is still in connect() takes for a hint only, and
 * sends its SYN again a second later. The options stay: they mean nothing in a reset.
 */
static __noinline int answer_reset(struct __sk_buff *skb, const struct packet *packet, bool leaving)
{
	/* From the sequence number to the window. */
	__be32 before[3], after[3];
	__be32 ports = packet->tuple.dport | (__u32)packet->tuple.sport << 16;
	__s64 difference;

	if (packet->part != WHOLE || bpf_skb_load_bytes(skb, packet->l4 + 4, before, sizeof(before)))
		return DROP;
	after[0] = 0;
	after[1] = bpf_htonl(bpf_ntohl(before[0]) + 1);
	after[2] = (before[2] & bpf_htonl(0xf0000000)) | bpf_htonl((TCP_RST | TCP_ACK) << 16);
	difference = bpf_csum_diff(before, sizeof(before), after, sizeof(after), 0);
	if (bpf_skb_store_bytes(skb, packet->l4, &ports, sizeof(ports), 0) ||
	    bpf_skb_store_bytes(skb, packet->l4 + 4, after, sizeof(after), 0) ||
	    bpf_l4_csum_replace(skb, packet->l4 + L4_CHECKSUM_OFFSET(IPPROTO_TCP), 0, difference, 0) ||
	    swap_addresses(skb, packet) || set_ttl(skb, packet, 64))
		return DROP;
	return send_back(skb, leaving);
}

static __noinline int answer_echo(struct __sk_buff *skb, const struct packet *packet, bool leaving)
{
	__u8 type = packet->ipv6 ? ICMPV6_ECHO_REPLY : ICMP_ECHOREPLY;
	__be16 old_word = bpf_htons((__u16)packet->icmp_type << 8);
	__be16 new_word = bpf_htons((__u16)type << 8);

	if (swap_addresses(skb, packet) || set_ttl(skb, packet, 64) || bpf_l4_csum_replace(skb, packet->l4 + 2, old_word, new_word, 2) ||
	    bpf_skb_store_bytes(skb, packet->l4, &type, 1, 0))
		return DROP;
	return send_back(skb, leaving);
}

#endif
