/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
#ifndef OCTOPLANE_CONSTS_H
#define OCTOPLANE_CONSTS_H

/* Sizes of the maps. These are the defaults: the loader may set others before the maps are made. */
#ifndef MAX_FRONTENDS
#define MAX_FRONTENDS 262144
#endif
#ifndef MAX_BACKENDS
#define MAX_BACKENDS 524288
#endif
#ifndef MAX_SERVICES
#define MAX_SERVICES 65536
#endif
#ifndef MAX_ADDRESSES
#define MAX_ADDRESSES 262144
#endif
#ifndef MAX_RANGES
#define MAX_RANGES 65536
#endif
#ifndef MAX_AFFINITIES
#define MAX_AFFINITIES 65536
#endif
#ifndef MAX_UDP_REPLIES
#define MAX_UDP_REPLIES 32768
#endif

#ifndef MAX_COUNTS
#define MAX_COUNTS MAX_BACKENDS
#endif

#ifndef MAX_GONE
#define MAX_GONE 65536
#endif
#ifndef MAX_FLOWS
#define MAX_FLOWS 131072
#endif
#ifndef MAX_FRAGMENTS
#define MAX_FRAGMENTS 8192
#endif

/*
 * Source ports of masqueraded packets. Below the node ports (30000) and the ports that the kernel gives to the node's own
 * connections (net.ipv4.ip_local_port_range starts at 32768), neither of which can then be mistaken for a flow of ours.
 */
#ifndef MASQUERADE_PORT_MIN
#define MASQUERADE_PORT_MIN 1024
#endif
#ifndef MASQUERADE_PORT_MAX
#define MASQUERADE_PORT_MAX 29999
#endif

/* A flow that has been idle for so long may lose its port to a new one; until then only a full map ends it. */
#ifndef CONNECTION_IDLE_SECONDS
#define CONNECTION_IDLE_SECONDS 28800
#endif
#ifndef CLOSING_SECONDS
#define CLOSING_SECONDS 60
#endif
#ifndef UDP_IDLE_SECONDS
#define UDP_IDLE_SECONDS 180
#endif

#define FLOW_SILENT_NS 10000000ULL

/* Longest key of a service port that is kept: 63 + 1 + 63 + 1 + 5 + 1 + 4, rounded up. */
#define SERVICE_KEY_BYTES 160

/* Most endpoints of one family that a search through a set visits. */
#define MAX_SET 65535

/* frontend.kinds: what a service port calls this address; one address may be several things. */
#define KIND_CLUSTER_IP 1
#define KIND_EXTERNAL_IP 2
#define KIND_LOAD_BALANCER 4
#define KIND_NODE_PORT 8

/* frontend.flags */
/* No endpoint for clients on the node: drop in silence, because others have one (P12, P13); otherwise refuse (P14). */
#define FRONTEND_DROP_INSIDE 1
/* The same for packets from outside. */
#define FRONTEND_DROP_OUTSIDE 2
/* Packets from outside take an address of the node as their source (P11). */
#define FRONTEND_MASQUERADE 4
/* Clients must be within the service's source ranges (P23). */
#define FRONTEND_RANGES 8
/* Clients inside take an address of the node as their source too (masqueradeAll), which only packets can. */
#define FRONTEND_PACKETS 16

/* backend.flags: endpointFlags of the rule set, as they are. */
#define BACKEND_CLUSTER 1
#define BACKEND_LOCAL 2
#define BACKEND_TERMINATING 4
#define BACKEND_DRAINING 8

/* address_roles.roles */
/* A local address where node ports answer. */
#define ROLE_NODE 1
/* The same, for sockets of the node's own namespace only: 127.0.0.1 and ::1 of a pod are the pod's. */
#define ROLE_LOOPBACK 2
/* A cluster IP: no port but those of its service exists on it. */
#define ROLE_CLUSTER_IP 4
/* Any other address of a frontend. */
#define ROLE_EXTERNAL 8
/* Endpoints whose answers to outside clients leave with the service's address. */
#define ROLE_LOCAL_BACKEND 16

/* address_roles.echo: what a ping meets. */
#define ECHO_PASS 0
#define ECHO_REPLY 1
#define ECHO_REJECT 2
#define ECHO_DROP 3

/* flow.flags */
/* Of the packets from the client, or of the answers to them. */
#define FLOW_FORWARD 1
#define FLOW_REPLY 2
/* Its packets take a source on the node, so they are sent on from here, and not by the node's stack. */
#define FLOW_MASQUERADED 4
/* A FIN or RST was seen, or what SCTP has in their place. */
#define FLOW_CLOSING 8

/* From Linux headers that do not go together with the bpf target. */
#define ECONNREFUSED 111
#define EADDRINUSE 98
#define EEXIST 17
#define AF_INET 2
#define AF_INET6 10

#endif
