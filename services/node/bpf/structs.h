/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
#ifndef OCTOPLANE_STRUCTS_H
#define OCTOPLANE_STRUCTS_H

#include <linux/types.h>

#include "consts.h"

/*
 * Every struct here is written or read by services/node/drivers/ebpf/layout.ts, which must agree byte for byte; LAYOUT
 * there is raised with every change, because maps outlive programs.
 */

/* An address of either family; IPv4 as ::ffff:a.b.c.d, as v6 sockets write it. Network order. */
struct address {
	union {
		__u8 byte[16];
		__be32 word[4];
		__u64 half[2];
	};
};

/* Where a frontend or an endpoint listens. Node ports have the address 0.0.0.0 or ::. */
struct endpoint {
	struct address address;
	__be16 port;
	__u8 protocol;
	__u8 zero[5];
};

/* A part of the array of backends. */
struct window {
	__u32 start;
	__u32 count;
};

/*
 * What happens to traffic to one address, port and protocol. It names the set of backends by two windows, so that one
 * overwritten value moves the frontend to another set, at once and as a whole.
 */
struct frontend {
	/*
	 * Derived from the key. A hash map may give the memory of a replaced value to another key while a program still
	 * reads it; the guard is the first word that such a write changes and the last that a program reads.
	 */
	__u64 guard;
	__u32 service;
	/* Clients whose sockets are on this node. */
	struct window inside;
	/* Packets that reach the node. */
	struct window outside;
	/* Client-IP affinity in seconds, 0: none. */
	__u32 affinity_seconds;
	__u16 flags;
	__u8 kinds;
	__u8 zero;
	/*
	 * Of the windows: a number that no others have had. What programs remember of a choice is asked again when it differs.
	 * (Where a window starts would not do: empty ones start nowhere, and ranges are given to others when they are left.)
	 */
	__u32 generation;
};

/* A chosen endpoint of one service. Never overwritten while a frontend or a running program can point to it. */
struct backend {
	struct address address;
	__be16 port;
	__u8 flags;
	__u8 zero;
	__u32 service;
};

/* What a service id stands for. Programs do not read it. */
struct service {
	__u32 start;
	__u32 count;
	__u32 affinity_seconds;
	/* 1: internalPolicy is Local; 2: externalPolicy is Local. */
	__u8 policies;
	__u8 usable_families;
	__u8 key_bytes;
	__u8 zero;
	char key[SERVICE_KEY_BYTES];
	/* Of its frontends. */
	__u32 generation;
};

struct address_roles {
	__u8 roles;
	__u8 echo;
	__u16 zero;
};

/* One for all programs. */
struct config {
	/* Of the namespace that the daemon runs in. */
	__u64 host_netns;
	/* Sources of masqueraded packets, by family: IPv4, IPv6. All zero: none. */
	struct address node[2];
	/* 1: another driver takes what is new; connections that began here go on. */
	__u32 retired;
	__u32 zero;
};

struct affinity_key {
	struct address client;
	__u32 service;
	/* 4 or 6: each family has endpoints of its own. */
	__u32 family;
};

struct affinity {
	__u64 used_ns;
	struct address address;
	/* Where the backend was found last; right as long as the generation is this. */
	__u32 generation;
	__u32 slot;
	__be16 port;
	__u8 zero[6];
};

struct counts_key {
	struct address address;
	__u32 service;
	__be16 port;
	__u16 zero;
};

/* Packets are those that pass the packet programs: after connect() a socket's pass none. */
struct counts {
	__u64 connections;
	__u64 packets_to;
	__u64 bytes_to;
	__u64 packets_from;
	__u64 bytes_from;
};

/* What a socket was told it talks to, and what it does talk to. */
struct peer {
	struct endpoint service;
	struct endpoint backend;
	__u32 service_id;
	/* Of the frontend when the backend was last known to be one of its. */
	__u32 generation;
	/* By connect(): the socket will not ask again. */
	__u32 connected;
	__u32 zero;
};

/* An endpoint that a service port has lost. */
struct gone {
	struct endpoint backend;
	__u32 service;
	__u32 zero;
};

struct udp_reply_key {
	__u64 cookie;
	struct endpoint backend;
};

/* A packet's tuple, as it is on the wire where a program sees it. */
struct tuple {
	struct address src;
	struct address dst;
	__be16 sport;
	__be16 dport;
	__u8 protocol;
	__u8 zero[3];
};

/* What becomes of packets of a tuple. Each flow has two, and each knows the other's key: the new tuple, reversed. */
struct flow {
	__u64 seen_ns;
	struct address src;
	struct address dst;
	__be16 sport;
	__be16 dport;
	/* Of the frontend when the backend was last known to be one of its. */
	__u32 generation;
	__u32 flags;
	__u32 service;
};

/* Fragments but the first have no ports. */
struct fragment_key {
	struct address src;
	struct address dst;
	__u32 id;
	__u32 protocol;
};

struct fragment {
	__be16 sport;
	__be16 dport;
};

struct source_range_key {
	__u32 prefix_bits;
	__u32 service;
	struct address address;
};

#endif
