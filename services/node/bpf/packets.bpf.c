// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0)
/*
 * Packets for services that no socket program has translated: from clients outside the cluster, and from those
 * inside whose address matters (source ranges), whose sockets are not the node's (virtual machines), or for whose sockets the
 * kernel has no hook (SCTP).
 *
 * Every packet pays for one lookup of its destination among the addresses of the node and of services; most pay no more.
 *
 * Promises:
 *   1. What is not for a service, or not of a flow of ours, is passed on unchanged to the next program or the stack.
 *   2. A flow keeps its backend until it ends; UDP until its endpoint goes (P30), TCP and SCTP until the connection is closed.
 *   3. Packets of connections that began elsewhere (before this program was here) are passed on: of TCP and SCTP always, of UDP
 *      where netfilter can be asked for them.
 *   4. Once retired, only what is a flow goes on; everything new is passed on.
 */
#include <stdbool.h>
#include <stddef.h>

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "flows.h"
#include "forward.h"
#include "inner.h"
#include "rendezvous.h"

/* Where a packet is when a program sees it. */
enum place {
	/* Came in by a device that has an address of the node. */
	FROM_OUTSIDE,
	/* Came in by another one: from a pod. */
	FROM_INSIDE,
	/* Goes out by a device that has an address of the node. */
	LEAVING,
};

static __always_inline bool find_service(const struct packet *packet, __u8 roles, struct frontend *frontend)
{
	struct endpoint key = { .address = packet->tuple.dst, .port = packet->tuple.dport,
				.protocol = packet->tuple.protocol };

	if (find_frontend(&key, frontend))
		return true;
	if (!(roles & ROLE_NODE))
		return false;
	if (packet->ipv6)
		__builtin_memset(&key.address, 0, sizeof(key.address));
	else
		key.address.word[3] = 0;
	return find_frontend(&key, frontend);
}

static __always_inline bool in_source_ranges(const struct frontend *frontend, const struct address *client)
{
	struct source_range_key key = { .prefix_bits = 32 + 128, .service = frontend->service, .address = *client };

	return bpf_map_lookup_elem(&source_ranges, &key) != NULL;
}

static __always_inline const struct window *window_for(const struct frontend *frontend, enum place place)
{
	return place == FROM_OUTSIDE ? &frontend->outside : &frontend->inside;
}

static __always_inline const struct backend *choose(const struct packet *packet, const struct frontend *frontend,
						     const struct window *window)
{
	const struct backend *backend;
	struct affinity_key key = {};
	__u32 slot;

	if (frontend->affinity_seconds) {
		key.client = packet->tuple.src;
		key.service = frontend->service;
		key.family = packet->ipv6 ? 6 : 4;
		backend = recall(frontend, window, &key);
		if (backend)
			return backend;
	}
	slot = rendezvous(window, flow_hash(&packet->tuple, frontend->affinity_seconds != 0));
	backend = bpf_map_lookup_elem(&backends, &slot);
	if (backend && frontend->affinity_seconds)
		remember(frontend, &key, slot, backend);
	return backend;
}

static __always_inline bool is_node_address(const struct address *address)
{
	const struct address_roles *roles = bpf_map_lookup_elem(&addresses, address);

	return roles && roles->roles & ROLE_NODE;
}

/* Sets the client's side of a new flow; false: the node has no address to lend. */
static __always_inline bool lend_source(const struct packet *packet, struct claim *claim)
{
	__u32 zero = 0;
	const struct config *cfg = bpf_map_lookup_elem(&config, &zero);
	const struct address *own;

	if (!cfg)
		return false;
	own = packet->ipv6 ? &cfg->node[1] : &cfg->node[0];
	if (!own->half[0] && !own->half[1])
		return false;
	claim->flow.src = *own;
	claim->flow.flags |= FLOW_MASQUERADED;
	return true;
}

static __always_inline int send(struct __sk_buff *skb, const struct packet *packet, const struct flow *flow,
				enum place place)
{
	struct tuple to = {};

	new_tuple(&packet->tuple, flow, &to);
	/* Without a source on the node the stack routes the packet itself, and the answer leaves by way of LEAVING. */
	if (flow->flags & FLOW_MASQUERADED)
		return forward(skb, packet, &to, place == LEAVING);
	return rewrite(skb, packet, &to) ? DROP : PASS;
}

/* What is to be done with a packet; functions that decide leave acting to their caller, because stacks are short. */
enum decision { LET_PASS, DISCARD, REFUSE, SEND };

static __always_inline enum decision open_flow(struct __sk_buff *skb, const struct packet *packet,
					       struct workspace *work, enum place place)
{
	const struct frontend *frontend = &work->frontend;
	const struct window *window = window_for(frontend, place);
	__u16 silent = place == FROM_OUTSIDE ? FRONTEND_DROP_OUTSIDE : FRONTEND_DROP_INSIDE;
	__u16 port = bpf_ntohs(packet->tuple.sport);
	const struct backend *backend;
	struct claim claim = { .skb = skb };
	bool masquerade;

	if (frontend->flags & FRONTEND_RANGES && !in_source_ranges(frontend, &packet->tuple.src))
		return DISCARD;
	if (!window->count)
		return frontend->flags & silent ? DISCARD : REFUSE;
	backend = choose(packet, frontend, window);
	if (!backend)
		return DISCARD;
	claim.key = packet->tuple;
	claim.flow.dst = backend->address;
	claim.flow.dport = backend->port;
	claim.flow.generation = frontend->generation;
	claim.flow.service = frontend->service;
	claim.flow.flags = FLOW_FORWARD;
	claim.flow.src = packet->tuple.src;
	claim.preferred = packet->tuple.sport;
	/* A backend in the node's own network is reached through its stack, where no packet may come from the node. */
	masquerade = (place != FROM_OUTSIDE || frontend->flags & FRONTEND_MASQUERADE) && !is_node_address(&backend->address);
	if (masquerade) {
		if (!lend_source(packet, &claim))
			return DISCARD;
		if (port < MASQUERADE_PORT_MIN || port > MASQUERADE_PORT_MAX)
			claim.preferred = 0;
	}
	if (!enter_flow(&claim))
		return DISCARD;
	count_connection(frontend->service, &backend->address, backend->port);
	count_packet(packet, &claim.flow);
	work->flow = claim.flow;
	return SEND;
}

/* May a flow from a client go on with its backend? Asked for every datagram, and for what opens a connection. */
static __always_inline bool may_go_on(struct flow *flow, const struct frontend *frontend, enum place place)
{
	struct endpoint backend = { .address = flow->dst, .port = flow->dport };

	if (flow->service != frontend->service || flow->flags & FLOW_CLOSING)
		return false;
	if (flow->generation == frontend->generation)
		return true;
	if (find_backend(window_for(frontend, place), &backend) < 0)
		return false;
	flow->generation = frontend->generation;
	return true;
}

/* Of a packet to a service, or of a flow; SEND: as work->flow says. */
static __noinline int decide(struct __sk_buff *skb, struct packet *packet, struct workspace *work, __u32 roles,
			     enum place place)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, &packet->tuple);
	bool retired = is_retired();
	/* In the middle of a connection. */
	bool established = packet->tuple.protocol != IPPROTO_UDP && !packet->opens;
	bool goes_on = flow && (flow->flags & FLOW_REPLY || established);
	bool known = false;

	if (flow && flow->flags & FLOW_REPLY && was_silent(flow) && netfilter_status(skb, &packet->tuple)) {
		forget(&packet->tuple, flow);
		return LET_PASS;
	}
	if (!goes_on)
		known = find_service(packet, roles, &work->frontend);
	if (flow && (goes_on || (known && may_go_on(flow, &work->frontend, place)))) {
		touch(packet, flow);
		work->flow = *flow;
		return SEND;
	}
	if (flow)
		forget(&packet->tuple, flow);
	if (retired)
		return LET_PASS;
	/* No port but those of its service exists on a cluster IP (P38). */
	if (!known)
		return roles & ROLE_CLUSTER_IP && !established ? REFUSE : LET_PASS;
	if (established)
		/* Not into a loop between this node and its router. */
		return place == LEAVING ? DISCARD : LET_PASS;
	return is_netfilters(skb, packet) ? LET_PASS : open_flow(skb, packet, work, place);
}

static __always_inline int on_flow(struct __sk_buff *skb, struct packet *packet, __u32 roles, enum place place)
{
	struct workspace *work = workspace();

	if (!work)
		return PASS;
	switch (decide(skb, packet, work, roles, place)) {
	case SEND:
		return send(skb, packet, &work->flow, place);
	case REFUSE:
		return packet->tuple.protocol == IPPROTO_TCP ?
			       answer_reset(skb, packet, place == LEAVING) :
			       answer_error(skb, packet, PORT_UNREACHABLE, 0, place == LEAVING);
	case DISCARD:
		return DROP;
	default:
		return PASS;
	}
}

/* A packet that the node or a pod sends: an answer of a backend that sees its clients' own addresses? */
static __noinline int on_answer(struct __sk_buff *skb, struct packet *packet)
{
	struct flow *flow;
	struct tuple to = {};

	if (is_error(packet))
		return translate_error(skb, packet, true);
	flow = bpf_map_lookup_elem(&flows, &packet->tuple);
	if (!flow || (flow->flags & (FLOW_REPLY | FLOW_MASQUERADED)) != FLOW_REPLY)
		return PASS;
	touch(packet, flow);
	new_tuple(&packet->tuple, flow, &to);
	return rewrite(skb, packet, &to) ? DROP : PASS;
}

static __always_inline int on_packet(struct __sk_buff *skb, enum place place)
{
	const struct address_roles *roles, *source_roles;
	struct packet packet = {};
	int verdict;

	if (!parse_network(skb, &packet))
		return PASS;
	if (place == LEAVING) {
		source_roles = bpf_map_lookup_elem(&addresses, &packet.tuple.src);
		if (source_roles && source_roles->roles & (ROLE_LOCAL_BACKEND | ROLE_NODE) &&
		    parse_transport(skb, &packet)) {
			verdict = on_answer(skb, &packet);
			if (verdict != PASS)
				return verdict;
		}
	}
	roles = bpf_map_lookup_elem(&addresses, &packet.tuple.dst);
	if (!roles || !parse_transport(skb, &packet))
		return PASS;
	if (is_echo_request(&packet)) {
		if (is_retired())
			return PASS;
		if (roles->echo == ECHO_REPLY)
			return answer_echo(skb, &packet, place == LEAVING);
		if (roles->echo == ECHO_REJECT)
			return answer_error(skb, &packet, PORT_UNREACHABLE, 0, place == LEAVING);
		return roles->echo == ECHO_DROP ? DROP : PASS;
	}
	if (is_error(&packet))
		return translate_error(skb, &packet, place == LEAVING);
	if (!has_ports(packet.tuple.protocol))
		return PASS;
	return on_flow(skb, &packet, roles->roles, place);
}

SEC("tc")
int octo_outside(struct __sk_buff *skb)
{
	return on_packet(skb, FROM_OUTSIDE);
}

SEC("tc")
int octo_inside(struct __sk_buff *skb)
{
	return on_packet(skb, FROM_INSIDE);
}

SEC("tc")
int octo_leaving(struct __sk_buff *skb)
{
	return on_packet(skb, LEAVING);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
