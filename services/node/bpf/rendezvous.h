/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
#ifndef OCTOPLANE_RENDEZVOUS_H
#define OCTOPLANE_RENDEZVOUS_H

#include "choose.h"

/*
 * Which backend a new flow from outside gets: the one whose hash with the flow is highest (rendezvous hashing, Thaler and
 * Ravishankar 1998). Every node picks the same one, so a flow that a router moves to another node finds its backend;
 * an endpoint that goes moves its own flows and no others, which tables such as Maglev's only approach. It needs no tables,
 * that is no memory and no rebuilding on a change, and costs a few nanoseconds an endpoint, once for each connection.
 */
struct rendezvous {
	__u64 flow;
	__u64 best;
	__u32 start;
	__u32 slot;
};

/* The finalizer of MurmurHash3: every bit of the input reaches every bit of the result. */
static __always_inline __u64 mix(__u64 hash)
{
	hash ^= hash >> 33;
	hash *= 0xff51afd7ed558ccdULL;
	hash ^= hash >> 33;
	hash *= 0xc4ceb9fe1a85ec53ULL;
	return hash ^ hash >> 33;
}

static __always_inline __u64 hash_address(const struct address *address, __u64 seed)
{
	return mix(mix(seed ^ address->half[0]) ^ address->half[1]);
}

static long rendezvous_step(__u32 index, void *context)
{
	struct rendezvous *search = context;
	__u32 slot = search->start + index;
	const struct backend *backend = bpf_map_lookup_elem(&backends, &slot);
	__u64 hash;

	if (!backend)
		return 1;
	hash = hash_address(&backend->address, search->flow ^ backend->port);
	if (hash >= search->best) {
		search->best = hash;
		search->slot = slot;
	}
	return 0;
}

/* Of what every node sees alike: ids and slots are a node's own, and a node port has an address on each. */
static __always_inline __u64 flow_hash(const struct tuple *tuple, bool client_only)
{
	__u64 ports = client_only ? tuple->dport : (__u64)tuple->sport << 16 | tuple->dport;

	return hash_address(&tuple->src, ports << 8 | tuple->protocol);
}

static __always_inline __u32 rendezvous(const struct window *window, __u64 flow)
{
	struct rendezvous search = { .flow = flow, .start = window->start, .slot = window->start };

	bpf_loop(window->count > MAX_SET ? MAX_SET : window->count, rendezvous_step, &search, 0);
	return search.slot;
}

#endif
