import type { Family } from '@octoplane/model/keys.ts';
import type { PortRange } from '../driver.ts';
import type { Element } from './element.ts';
import { sameByte, setsOf, tableName } from './layout.ts';

/**
 * A pod that reaches itself through a service must be masqueraded, or it answers itself past conntrack (P33). nf_tables cannot
 * compare two registers before Linux 6.13, and an element (endpoint, endpoint) for each endpoint would be half of the table. But one
 * set of 256 elements tells whether two bytes are the same, and asked for every byte of the source and of the destination it tells
 * whether the addresses are. The last bytes come first: they differ in all but one of 256 connections, and the rest is not asked.
 */

/** Where addresses begin in the header, and how long they are: bytes, RFC 791 and RFC 8200. */
const places = {
  IPv4: { source: 12, destination: 16, length: 4 },
  IPv6: { source: 8, destination: 24, length: 16 },
} as const;

/** All that belongs into `same-byte`. */
export const sameBytes: readonly Element[] = Array.from({ length: 256 }, (_, byte) => ({
  set: sameByte.name,
  key: [byte, byte],
  value: null,
  comment: null,
}));

/** Takes out whatever is there, so that it may be given to the kernel while it is in use. */
export const sameBytesText = (): string =>
  `flush set inet ${tableName} ${sameByte.name}\n` +
  `add element inet ${tableName} ${sameByte.name} { ${sameBytes.map(({ key }) => key.join(' . ')).join(', ')} }\n`;

/** Matches when source and destination are the same address. */
export function sameAddress(family: Family): string {
  const { source, destination, length } = places[family];
  const byte = (at: number): string => `@nh,${8 * at},8`;
  const tests = Array.from({ length }, (_, i) => {
    const at = length - 1 - i;
    return `${byte(source + at)} . ${byte(destination + at)} @${sameByte.name}`;
  });
  return `meta nfproto ${family === 'IPv4' ? 'ipv4' : 'ipv6'} ${tests.join(' ')}`;
}

/**
 * For what reached itself: masquerades it when a frontend of ours led it there, and leaves what others have translated to them. nft
 * wants the transport protocol named before it takes `ct original proto-dst`, hence a rule for each.
 */
export function ourHairpin(family: Family, ports: PortRange | undefined): string[] {
  const masquerade = masqueradeWith(ports);
  const sets = setsOf[family];
  const address = `ct original ${family === 'IPv4' ? 'ip' : 'ip6'} daddr`;
  const port = 'ct original proto-dst';
  return ['tcp', 'udp', 'sctp'].flatMap((proto) => [
    ...[sets.internal, sets.external, sets.externalLocal].map(
      (set) => `meta l4proto ${proto} ${address} . meta l4proto . ${port} @${set} ${masquerade}`,
    ),
    ...[sets.nodePort, sets.nodePortLocal].map(
      (set) => `meta l4proto ${proto} meta l4proto . ${port} @${set} ${masquerade}`,
    ),
  ]);
}

/** For a packet of a protocol that has ports. */
export const masqueradeWith = (ports: PortRange | undefined): string =>
  ports === undefined ? 'masquerade fully-random' : `masquerade to :${ports.first}-${ports.last} fully-random`;
