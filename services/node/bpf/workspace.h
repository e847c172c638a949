/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
#ifndef OCTOPLANE_WORKSPACE_H
#define OCTOPLANE_WORKSPACE_H

#include "packet.h"

struct error4 {
	struct iphdr ip;
	struct icmp4hdr icmp;
};

struct error6 {
	struct ipv6hdr ip;
	struct icmp6hdr icmp;
};

/* As Linux 5.18 had it; later ones take it, too. */
struct bpf_ct_opts {
	__s32 netns_id;
	__s32 error;
	__u8 l4proto;
	__u8 dir;
	__u8 reserved[2];
};

/* Too much for the stack of a program, which has 512 bytes for all functions together. */
struct workspace {
	struct frontend frontend;
	struct flow flow;
	/* The other half of a flow that is being entered. */
	struct flow reply;
	/* The quote in an ICMP error, before and after. */
	__u8 inner[48];
	__u8 changed[48];
	/* An ICMP error that is being made. */
	struct error4 error4;
	struct error6 error6;
	__u8 quote[60];
	__be32 pseudo[10];
	/* A question to conntrack. */
	struct bpf_sock_tuple asked;
	struct bpf_ct_opts options;
};

/* One for each CPU: packets are handled one at a time there. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct workspace);
} workspaces SEC(".maps");

static __always_inline struct workspace *workspace(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&workspaces, &zero);
}

#endif
