/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
#ifndef OCTOPLANE_FLOWS_H
#define OCTOPLANE_FLOWS_H

#include "counts.h"
#include "netfilter.h"

/*
 * Connection tracking of our own: two elements for each flow, by the tuple of the packets from the client and by that of the
 * answers. The map forgets what was not seen for longest when it is full, so no daemon is needed to keep it in bounds.
 *
 * Promises:
 *   1. Elements come and go as a pair. Each packet looks at both halves, so both are equally recent, and a half that was
 *      lost is made again from the other.
 *   2. A reply tuple belongs to one flow: it is claimed by an insertion that fails when it is taken, and another port is
 *      tried. So two services with one backend, called from one port of a client, are kept apart.
 *   3. A port of the node that netfilter has given to a connection is not given to a flow; and when netfilter gives one that a
 *      flow has left, which it cannot know, the flow makes way.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_FLOWS);
	__type(key, struct tuple);
	__type(value, struct flow);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} flows SEC(".maps");

#define PORT_TRIES 32

struct claim {
	struct __sk_buff *skb;
	struct tuple key;
	struct flow flow;
	/* Port to try first; 0: any. */
	__be16 preferred;
	bool claimed;
};

static __always_inline void new_tuple(const struct tuple *key, const struct flow *flow, struct tuple *to)
{
	to->src = flow->src;
	to->dst = flow->dst;
	to->sport = flow->sport;
	to->dport = flow->dport;
	to->protocol = key->protocol;
}

/* The key of the other half. */
static __always_inline void partner_key(const struct tuple *key, const struct flow *flow, struct tuple *partner)
{
	partner->src = flow->dst;
	partner->dst = flow->src;
	partner->sport = flow->dport;
	partner->dport = flow->sport;
	partner->protocol = key->protocol;
}

/* The other half: what takes its packets to the reverse of `key`. */
static __always_inline void partner_of(const struct tuple *key, const struct flow *flow, struct flow *partner)
{
	partner->seen_ns = flow->seen_ns;
	partner->src = key->dst;
	partner->dst = key->src;
	partner->sport = key->dport;
	partner->dport = key->sport;
	partner->generation = flow->generation;
	partner->service = flow->service;
	partner->flags = (flow->flags ^ (FLOW_FORWARD | FLOW_REPLY)) & ~FLOW_CLOSING;
}

static __always_inline bool is_idle(const struct tuple *key, const struct flow *flow, __u64 now)
{
	__u64 seconds = key->protocol == IPPROTO_UDP	 ? UDP_IDLE_SECONDS :
			flow->flags & FLOW_CLOSING ? CLOSING_SECONDS :
							   CONNECTION_IDLE_SECONDS;

	return now - flow->seen_ns >= seconds * 1000000000ULL;
}

/* Those of connections that began before their endpoint was counted, or that outlived it, go uncounted. */
static __always_inline void count_packet(const struct packet *packet, const struct flow *flow)
{
	struct counts_key key = {};
	struct counts *found;

	if (flow->flags & FLOW_FORWARD)
		counts_key_of(flow->service, &flow->dst, flow->dport, &key);
	else
		counts_key_of(flow->service, &packet->tuple.src, packet->tuple.sport, &key);
	found = bpf_map_lookup_elem(&counts, &key);
	if (!found)
		return;
	__sync_fetch_and_add(flow->flags & FLOW_FORWARD ? &found->packets_to : &found->packets_from, packet->segments);
	__sync_fetch_and_add(flow->flags & FLOW_FORWARD ? &found->bytes_to : &found->bytes_from, packet->bytes);
}

/* Long enough that its port may have changed hands; the answer to a request comes sooner, or is worth a question. */
static __always_inline bool was_silent(const struct flow *flow)
{
	return bpf_ktime_get_ns() - flow->seen_ns >= FLOW_SILENT_NS;
}

/* Marks both halves as in use, making the other one again when it was forgotten, and counts the packet. */
static __always_inline void touch(const struct packet *packet, struct flow *flow)
{
	const struct tuple *key = &packet->tuple;
	struct tuple partner_tuple = {};
	struct flow remade = {};
	struct flow *partner;

	flow->seen_ns = bpf_ktime_get_ns();
	count_packet(packet, flow);
	if (packet->closes)
		flow->flags |= FLOW_CLOSING;
	partner_key(key, flow, &partner_tuple);
	partner = bpf_map_lookup_elem(&flows, &partner_tuple);
	if (partner) {
		partner->seen_ns = flow->seen_ns;
		return;
	}
	partner_of(key, flow, &remade);
	bpf_map_update_elem(&flows, &partner_tuple, &remade, BPF_NOEXIST);
}

static __always_inline void forget(const struct tuple *key, const struct flow *flow)
{
	struct tuple partner_tuple = {};

	partner_key(key, flow, &partner_tuple);
	bpf_map_delete_elem(&flows, &partner_tuple);
	bpf_map_delete_elem(&flows, key);
}

static long claim_step(__u32 index, void *context)
{
	struct claim *claim = context;
	struct tuple reply_tuple = {};
	struct workspace *work = workspace();
	const struct flow *holder;
	__u32 span = MASQUERADE_PORT_MAX - MASQUERADE_PORT_MIN + 1;

	if (!work)
		return 1;
	claim->flow.sport = index == 0 && claim->preferred ?
				    claim->preferred :
				    bpf_htons(MASQUERADE_PORT_MIN + bpf_get_prandom_u32() % span);
	partner_key(&claim->key, &claim->flow, &reply_tuple);
	if (claim->flow.flags & FLOW_MASQUERADED && netfilter_status(claim->skb, &reply_tuple))
		return 0;
	partner_of(&claim->key, &claim->flow, &work->reply);
	if (!bpf_map_update_elem(&flows, &reply_tuple, &work->reply, BPF_NOEXIST)) {
		claim->claimed = true;
		return 1;
	}
	holder = bpf_map_lookup_elem(&flows, &reply_tuple);
	/* Taken; but a flow that has long been idle, and an earlier life of this one, give way. */
	if (holder && !is_idle(&reply_tuple, holder, claim->flow.seen_ns) &&
	    !(same_address(&holder->src, &claim->key.dst) && same_address(&holder->dst, &claim->key.src) &&
	      holder->sport == claim->key.dport && holder->dport == claim->key.sport))
		return 0;
	if (holder)
		forget(&reply_tuple, holder);
	claim->claimed = !bpf_map_update_elem(&flows, &reply_tuple, &work->reply, BPF_NOEXIST);
	return claim->claimed;
}

/* Enters a flow of `claim->key` to `claim->flow.dst`, with a source port of its own. False: no port is free. */
static __always_inline bool enter_flow(struct claim *claim)
{
	claim->flow.seen_ns = bpf_ktime_get_ns();
	bpf_loop(PORT_TRIES, claim_step, claim, 0);
	if (!claim->claimed)
		return false;
	bpf_map_update_elem(&flows, &claim->key, &claim->flow, BPF_ANY);
	return true;
}

#endif
