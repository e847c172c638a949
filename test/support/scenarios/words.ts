import type { Family } from '@octoplane/model/keys.ts';
import type { Lab } from '../lab/lab.ts';
import { balancer, clusterCidrs, secondAddress } from '../lab/plan.ts';
import { ShapeError } from './shape.ts';

/** What "$name" stands for in a scenario, by family; see test/scenarios/README.md. */
export type Words = Map<string, string>;

/** Addresses that nobody has until a Service gets them. */
const addresses: Readonly<Record<string, Readonly<Record<Family, string>>>> = {
  vip: { IPv4: '10.96.0.10', IPv6: 'fd00:96::10' },
  vip2: { IPv4: '10.96.0.20', IPv6: 'fd00:96::20' },
  vip3: { IPv4: '10.96.0.30', IPv6: 'fd00:96::30' },
  lb: { IPv4: '203.0.113.10', IPv6: '2001:db8:113::10' },
  lb2: { IPv4: '203.0.113.20', IPv6: '2001:db8:113::20' },
  external: { IPv4: '198.51.100.10', IPv6: '2001:db8:51::10' },
  external2: { IPv4: '198.51.100.20', IPv6: '2001:db8:51::20' },
  balancer,
  localhost: { IPv4: '127.0.0.1', IPv6: '::1' },
};

const ranges: Readonly<Record<string, Readonly<Record<Family, string>>>> = {
  'pod-cidr': clusterCidrs,
  'node-cidr': { IPv4: '172.18.0.0/24', IPv6: 'fd00:18::/64' },
  everybody: { IPv4: '0.0.0.0/0', IPv6: '::/0' },
  /** Length of the prefix of a single address. */
  single: { IPv4: '32', IPv6: '128' },
  family: { IPv4: 'IPv4', IPv6: 'IPv6' },
};

/** The words for a family; "$vip-v4" and "$vip-v6" name one of either whatever the family. */
export function wordsFor(lab: Lab, family: Family): Words {
  const words: Words = new Map();
  const places = Object.fromEntries(
    lab.plan.hosts.flatMap((host) => host.places.map((place) => [place.name, place.addresses])),
  );
  const seconds = Object.fromEntries(lab.nodes.map((host, i) => [`${host.name}-second`, secondAddress(i + 1)]));
  for (const [word, values] of Object.entries({ ...addresses, ...ranges, ...places, ...seconds })) {
    words.set(word, values[family]);
    words.set(`${word}-v4`, values.IPv4);
    words.set(`${word}-v6`, values.IPv6);
  }
  return words;
}

/** The value with every "$name" in its texts replaced, mapping keys apart. */
export function expand<T>(value: T, words: Words): T {
  if (typeof value === 'string') return expandText(value, words) as T;
  if (Array.isArray(value)) return value.map((each) => expand(each, words)) as T;
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, expand(each, words)])) as T;
  return value;
}

const expandText = (value: string, words: Words): string =>
  value.replaceAll(/\$([a-z][a-z0-9-]*)/g, (_, name: string) => {
    const word = words.get(name);
    if (word === undefined) throw new ShapeError(`"$${name}" is not known; known are ${[...words.keys()].join(', ')}`);
    return word;
  });

/** "ADDRESS:PORT", parted by the last colon, IPv6 without brackets. */
export function parseTarget(target: string): { readonly ip: string; readonly port: number } {
  const colon = target.lastIndexOf(':');
  const port = Number(target.slice(colon + 1));
  if (colon < 1 || !Number.isInteger(port)) throw new ShapeError(`"${target}" is not ADDRESS:PORT`);
  return { ip: target.slice(0, colon), port };
}
