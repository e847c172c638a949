/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
#ifndef OCTOPLANE_CHOOSE_H
#define OCTOPLANE_CHOOSE_H

#include "maps.h"

/* Finding the frontend of a destination, and a backend of a frontend. */

#define barrier() asm volatile("" ::: "memory")

static __always_inline bool same_address(const struct address *a, const struct address *b)
{
	return a->half[0] == b->half[0] && a->half[1] == b->half[1];
}

static __always_inline bool is_ipv4(const struct address *a)
{
	return a->half[0] == 0 && a->word[2] == bpf_htonl(0xffff);
}

static __always_inline void set_ipv4(struct address *a, __be32 ip)
{
	a->half[0] = 0;
	a->word[2] = bpf_htonl(0xffff);
	a->word[3] = ip;
}

static __always_inline __u64 guard_of(const struct endpoint *key)
{
	return ((__u64)key->address.word[3] << 32) | ((__u32)key->port << 16) | key->protocol;
}

/* Copies the frontend of `key`; false: there is none. See `guard` for why it may need a second look. */
static __always_inline bool find_frontend(const struct endpoint *key, struct frontend *copy)
{
	int i;

#pragma unroll
	for (i = 0; i < 3; i++) {
		const struct frontend *found = bpf_map_lookup_elem(&frontends, key);

		if (!found)
			return false;
		*copy = *found;
		barrier();
		if (*(const volatile __u64 *)&found->guard == guard_of(key))
			return true;
	}
	return false;
}

struct search {
	struct endpoint wanted;
	__u32 start;
	/* Absolute slot, or -1. */
	__s64 found;
};

static long search_step(__u32 index, void *context)
{
	struct search *search = context;
	__u32 slot = search->start + index;
	const struct backend *backend = bpf_map_lookup_elem(&backends, &slot);

	if (!backend)
		return 1;
	if (backend->port != search->wanted.port || !same_address(&backend->address, &search->wanted.address))
		return 0;
	search->found = slot;
	return 1;
}

/* The slot of an endpoint within a window, or -1. Costs a walk, and is only needed when the generation is another. */
static __always_inline __s64 find_backend(const struct window *window, const struct endpoint *wanted)
{
	struct search search = { .wanted = *wanted, .start = window->start, .found = -1 };
	__u32 count = window->count;

	if (count > MAX_SET)
		count = MAX_SET;
	bpf_loop(count, search_step, &search, 0);
	return search.found;
}

/* The backend that the client had, if affinity still binds it: not timed out, and still to be chosen (P21, P22). */
static __always_inline const struct backend *recall(const struct frontend *frontend, const struct window *window,
						     const struct affinity_key *key)
{
	struct affinity *last = bpf_map_lookup_elem(&affinities, key);
	struct endpoint wanted = {};
	__u64 now = bpf_ktime_get_ns();
	__s64 found;
	__u32 slot;

	if (!last || now - last->used_ns >= (__u64)frontend->affinity_seconds * 1000000000ULL)
		return NULL;
	if (last->generation != frontend->generation) {
		wanted.address = last->address;
		wanted.port = last->port;
		found = find_backend(window, &wanted);
		if (found < 0)
			return NULL;
		last->slot = found;
		last->generation = frontend->generation;
	}
	last->used_ns = now;
	slot = last->slot;
	if (slot - window->start >= window->count)
		return NULL;
	return bpf_map_lookup_elem(&backends, &slot);
}

static __always_inline void remember(const struct frontend *frontend, const struct affinity_key *key, __u32 slot,
				     const struct backend *backend)
{
	struct affinity next = {
		.used_ns = bpf_ktime_get_ns(),
		.address = backend->address,
		.generation = frontend->generation,
		.slot = slot,
		.port = backend->port,
	};

	bpf_map_update_elem(&affinities, key, &next, BPF_ANY);
}

static __always_inline const struct backend *backend_at(const struct window *window, __u32 random, __u32 *slot)
{
	*slot = window->start + random % window->count;
	return bpf_map_lookup_elem(&backends, slot);
}

#endif
