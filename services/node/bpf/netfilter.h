/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
#ifndef OCTOPLANE_NETFILTER_H
#define OCTOPLANE_NETFILTER_H

#include "kernel-types.h"
#include "workspace.h"

/*
 * Connections that netfilter translates: of the driver before this one, as long as they last, or of the one after it. Asked
 * before a flow begins here, so that a change of driver leaves every connection where it is.
 */

/* Set by the loader where the kernel has the function (Linux 5.18 with nf_conntrack and its BTF); otherwise the calls are dead code. */
const volatile __u32 asks_netfilter SEC(".rodata.netfilter") = 0;

/* include/uapi/linux/netfilter/nf_conntrack_common.h */
#define IPS_ASSURED (1 << 2)
#define IPS_SRC_NAT (1 << 4)
#define IPS_DST_NAT (1 << 5)

extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *skb, struct bpf_sock_tuple *tuple, __u32 tuple_bytes,
					 struct bpf_ct_opts *opts, __u32 opts_bytes) __ksym __weak;
extern void bpf_ct_release(struct nf_conn *connection) __ksym __weak;

/* Its status if netfilter translates packets of this tuple, in either direction; 0: it does not, or cannot be asked. */
static __noinline __u32 netfilter_status(struct __sk_buff *skb, const struct tuple *tuple)
{
	bool ipv6 = !is_ipv4(&tuple->dst);
	struct workspace *work = workspace();
	struct bpf_sock_tuple *asked;
	struct nf_conn *connection;
	__u32 status;

	if (!asks_netfilter || !work)
		return 0;
	__builtin_memset(&work->options, 0, sizeof(work->options));
	work->options.netns_id = BPF_F_CURRENT_NETNS;
	work->options.l4proto = tuple->protocol;
	asked = &work->asked;
	if (ipv6) {
		__builtin_memcpy(asked->ipv6.saddr, &tuple->src, 16);
		__builtin_memcpy(asked->ipv6.daddr, &tuple->dst, 16);
		asked->ipv6.sport = tuple->sport;
		asked->ipv6.dport = tuple->dport;
	} else {
		asked->ipv4.saddr = tuple->src.word[3];
		asked->ipv4.daddr = tuple->dst.word[3];
		asked->ipv4.sport = tuple->sport;
		asked->ipv4.dport = tuple->dport;
	}
	connection = bpf_skb_ct_lookup(skb, asked, ipv6 ? sizeof(asked->ipv6) : sizeof(asked->ipv4), &work->options,
				       sizeof(work->options));
	if (!connection)
		return 0;
	status = connection->status;
	bpf_ct_release(connection);
	return status & (IPS_SRC_NAT | IPS_DST_NAT) ? status : 0;
}

/* May a packet that would begin a flow be left to netfilter? What opens a TCP connection is, while it is being opened there. */
static __always_inline bool is_netfilters(struct __sk_buff *skb, const struct packet *packet)
{
	__u32 status = netfilter_status(skb, &packet->tuple);

	return status && !(packet->tuple.protocol == IPPROTO_TCP && status & IPS_ASSURED);
}

#endif
