/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
#ifndef OCTOPLANE_COUNTS_H
#define OCTOPLANE_COUNTS_H

#include "choose.h"

/*
 * What each endpoint of each service port was given: made with its first connection, so that what nobody uses takes no memory, and
 * removed by the daemon, which adds it to the service port's own element (address zero) when the endpoint has gone. An element
 * that is removed while a program adds to it may lose that addition, or give it to another: these are figures, not books.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_COUNTS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct counts_key);
	__type(value, struct counts);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} counts SEC(".maps");

static __always_inline void counts_key_of(__u32 service, const struct address *address, __be16 port,
					  struct counts_key *key)
{
	key->address = *address;
	key->service = service;
	key->port = port;
}

/* A socket or a flow was given this backend. When the map is full it is not counted, and works all the same. */
static __always_inline void count_connection(__u32 service, const struct address *address, __be16 port)
{
	struct counts first = { .connections = 1 };
	struct counts_key key = {};
	struct counts *found;

	counts_key_of(service, address, port, &key);
	found = bpf_map_lookup_elem(&counts, &key);
	if (!found && !bpf_map_update_elem(&counts, &key, &first, BPF_NOEXIST))
		return;
	/* Another processor was first. */
	if (!found)
		found = bpf_map_lookup_elem(&counts, &key);
	if (found)
		__sync_fetch_and_add(&found->connections, 1);
}

#endif
