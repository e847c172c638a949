/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
#ifndef OCTOPLANE_PACKET_H
#define OCTOPLANE_PACKET_H

#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "maps.h"

/* Taking packets apart. Reads copies only, so that no packet, however it lies in memory or is cut off, needs care. */

/* Next program, or the stack: programs of others at the same hook see every packet that is not ours. */
#define PASS TC_ACT_UNSPEC
#define DROP TC_ACT_SHOT

#define L3 ETH_HLEN
#define IP_MORE_FRAGMENTS 0x2000
#define IP_OFFSET 0x1fff
#define NEXTHDR_HOP 0
#define NEXTHDR_ROUTING 43
#define NEXTHDR_FRAGMENT 44
#define NEXTHDR_DEST 60
#define MAX_EXTENSION_HEADERS 4

/* As linux/icmp.h, which does not go together with the bpf target. */
#define ICMP_ECHOREPLY 0
#define ICMP_DEST_UNREACH 3
#define ICMP_ECHO 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12
#define ICMP_PORT_UNREACH 3
#define ICMP_FRAG_NEEDED 4

struct icmp4hdr {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 unused;
	__be16 mtu;
};

#define SCTP_INIT 1
#define SCTP_ABORT 6
#define SCTP_SHUTDOWN_COMPLETE 14

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16

enum fragment_part { WHOLE, FIRST_FRAGMENT, LATER_FRAGMENT };

struct packet {
	struct tuple tuple;
	/* Offset of the transport header. */
	__u32 l4;
	__u32 id;
	enum fragment_part part;
	__u16 l3_bytes;
	bool ipv6;
	__u8 ttl;
	/* Of a connection: is this packet its first one, or one of its last? */
	bool opens;
	bool closes;
	__u8 icmp_type;
	/* Without the Ethernet header; of all the segments of a packet that is still whole (GSO). */
	__u32 bytes;
	__u32 segments;
};

/* Ports of the first fragment of a datagram, for those that follow. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_FRAGMENTS);
	__type(key, struct fragment_key);
	__type(value, struct fragment);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} fragments SEC(".maps");

static __always_inline bool parse_ipv4(struct __sk_buff *skb, struct packet *packet)
{
	struct iphdr ip;
	__u16 fragment;

	if (bpf_skb_load_bytes(skb, L3, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return false;
	fragment = bpf_ntohs(ip.frag_off);
	packet->part = fragment & IP_OFFSET ? LATER_FRAGMENT : fragment & IP_MORE_FRAGMENTS ? FIRST_FRAGMENT : WHOLE;
	packet->id = ip.id;
	packet->l4 = L3 + ip.ihl * 4;
	packet->l3_bytes = bpf_ntohs(ip.tot_len);
	packet->ttl = ip.ttl;
	packet->tuple.protocol = ip.protocol;
	set_ipv4(&packet->tuple.src, ip.saddr);
	set_ipv4(&packet->tuple.dst, ip.daddr);
	return true;
}

static __always_inline bool parse_ipv6(struct __sk_buff *skb, struct packet *packet)
{
	struct ipv6hdr ip;
	struct {
		__u8 next;
		__u8 length;
		__be16 offset;
		__be32 id;
	} header;
	int i;

	if (bpf_skb_load_bytes(skb, L3, &ip, sizeof(ip)) || ip.version != 6)
		return false;
	packet->ipv6 = true;
	packet->l4 = L3 + sizeof(ip);
	packet->l3_bytes = bpf_ntohs(ip.payload_len) + sizeof(ip);
	packet->ttl = ip.hop_limit;
	packet->tuple.protocol = ip.nexthdr;
	__builtin_memcpy(&packet->tuple.src, &ip.saddr, sizeof(ip.saddr));
	__builtin_memcpy(&packet->tuple.dst, &ip.daddr, sizeof(ip.daddr));
#pragma unroll
	for (i = 0; i < MAX_EXTENSION_HEADERS; i++) {
		__u8 type = packet->tuple.protocol;

		if (type != NEXTHDR_HOP && type != NEXTHDR_ROUTING && type != NEXTHDR_DEST && type != NEXTHDR_FRAGMENT)
			return true;
		if (bpf_skb_load_bytes(skb, packet->l4, &header, sizeof(header)))
			return false;
		if (type == NEXTHDR_FRAGMENT) {
			packet->part = header.offset & bpf_htons(0xfff8) ? LATER_FRAGMENT :
				       header.offset & bpf_htons(1)	 ? FIRST_FRAGMENT :
									   WHOLE;
			packet->id = header.id;
			packet->l4 += sizeof(header);
		} else {
			packet->l4 += (header.length + 1) * 8;
		}
		packet->tuple.protocol = header.next;
	}
	return true;
}

/* Addresses, and where the transport header is. */
static __always_inline bool parse_network(struct __sk_buff *skb, struct packet *packet)
{
	packet->bytes = skb->len - L3;
	packet->segments = skb->gso_segs ? skb->gso_segs : 1;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return parse_ipv4(skb, packet);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(skb, packet);
	return false;
}

static __always_inline void fragment_key_of(const struct packet *packet, struct fragment_key *key)
{
	key->src = packet->tuple.src;
	key->dst = packet->tuple.dst;
	key->id = packet->id;
	key->protocol = packet->tuple.protocol;
}

static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

/* Ports and flags; false for what has no ports, or lost them. */
static __always_inline bool parse_transport(struct __sk_buff *skb, struct packet *packet)
{
	struct fragment_key key = {};
	struct fragment ports;
	const struct fragment *known;
	__u8 flags;

	if (packet->tuple.protocol == IPPROTO_ICMP || packet->tuple.protocol == IPPROTO_ICMPV6)
		return packet->part == WHOLE && !bpf_skb_load_bytes(skb, packet->l4, &packet->icmp_type, 1);
	if (!has_ports(packet->tuple.protocol))
		return false;
	/* Its checksum could not be renewed: that depends on where the last fragment ends. */
	if (packet->tuple.protocol == IPPROTO_SCTP && packet->part != WHOLE)
		return false;
	if (packet->part == LATER_FRAGMENT) {
		fragment_key_of(packet, &key);
		known = bpf_map_lookup_elem(&fragments, &key);
		if (!known)
			return false;
		packet->tuple.sport = known->sport;
		packet->tuple.dport = known->dport;
		return true;
	}
	if (bpf_skb_load_bytes(skb, packet->l4, &ports, sizeof(ports)))
		return false;
	packet->tuple.sport = ports.sport;
	packet->tuple.dport = ports.dport;
	if (packet->tuple.protocol == IPPROTO_TCP) {
		if (bpf_skb_load_bytes(skb, packet->l4 + 13, &flags, 1))
			return false;
		packet->opens = (flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
		packet->closes = flags & (TCP_FIN | TCP_RST);
	}
	if (packet->tuple.protocol == IPPROTO_SCTP) {
		/* The type of the first chunk. */
		if (bpf_skb_load_bytes(skb, packet->l4 + 12, &flags, 1))
			return false;
		packet->opens = flags == SCTP_INIT;
		packet->closes = flags == SCTP_ABORT || flags == SCTP_SHUTDOWN_COMPLETE;
	}
	if (packet->part == FIRST_FRAGMENT) {
		fragment_key_of(packet, &key);
		bpf_map_update_elem(&fragments, &key, &ports, BPF_ANY);
	}
	return true;
}

#endif
