/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
#ifndef OCTOPLANE_KERNEL_TYPES_H
#define OCTOPLANE_KERNEL_TYPES_H

/* The few fields of kernel structs that are read; libbpf finds where this kernel has them (CO-RE). */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

struct possible_net {
	struct net *net;
};

struct address_words {
	unsigned int word[4];
};

struct sock_common {
	unsigned int skc_daddr;
	unsigned int skc_rcv_saddr;
	unsigned short skc_dport;
	unsigned short skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	struct possible_net skc_net;
	struct address_words skc_v6_daddr;
	struct address_words skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
};

struct inet_sock {
	struct sock sk;
};

struct udp_sock {
	struct inet_sock inet;
};

/* Of a packet; its other fields are in __sk_buff. */
struct sk_buff {
	__u8 ip_summed : 2;
};

struct nf_conn {
	unsigned long status;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__udp {
	struct bpf_iter_meta *meta;
	struct udp_sock *udp_sk;
};

struct bpf_map;

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
};

#pragma clang attribute pop

#endif
