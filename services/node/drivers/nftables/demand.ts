import { createHash } from 'node:crypto';
import { familyOf, type Ip } from '@octoplane/model/address.ts';
import { type Family, parseServicePortKey, type ServicePortKey } from '@octoplane/model/keys.ts';
import { type Endpoint, type Entry, familyBit, type ServicePortSpec } from '@octoplane/model/rule-set.ts';
import {
  type Affinity,
  type Chain,
  copiesOf,
  learnChain,
  leastSize,
  sizeFor,
  stickyChain,
  stickyName,
} from './chains.ts';
import type { Element, Verdict } from './element.ts';
import { type Frontend, families, frontendsOf, listsUsed, noteText, usesCluster, usesLocal } from './frontends.ts';
import { type FamilySets, localIndex, nftProtocol, setsOf } from './layout.ts';
import { inCluster, inLocal, noSlots, type Slots } from './slots.ts';
import { rangedFamilies } from './visible.ts';

/** An entry in its visible form and the index of each of its endpoints: all that its part of the tables follows from. */
export interface Placed {
  readonly entry: Entry;
  readonly slots: Readonly<Record<Family, FamilySlots>>;
}

export interface FamilySlots {
  readonly cluster: Slots;
  readonly local: Slots;
}

export const noFamilySlots: FamilySlots = { cluster: noSlots, local: noSlots };

/** What an entry needs beside the elements of its indexes. */
export interface Demand {
  /** Of this entry alone. */
  readonly elements: Element[];
  /** By name, of this entry alone: those of its affinities. */
  readonly chains: Map<string, Chain>;
  readonly affinities: Affinity[];
  /** Addresses whose elements other entries may need as well. */
  readonly clusterIps: readonly Ip[];
  readonly pings: readonly Ip[];
}

export function demandOf(placed: Placed): Demand {
  const { key, spec } = placed.entry;
  const id = portOf(key);
  const affinities = affinitiesOf(key, id.proto, spec);
  const demand: Demand = {
    elements: [],
    chains: new Map(),
    affinities: [affinities.cluster, affinities.local].filter((affinity) => affinity !== null),
    clusterIps: spec.clusterIps,
    pings: spec.clusterIps.filter((ip) => (spec.usableFamilies & familyBit(familyOf(ip))) !== 0),
  };
  for (const frontend of frontendsOf(spec)) {
    frontendElements(demand, frontend, { key, spec, ...id, slots: placed.slots[frontend.family], ...affinities });
  }
  return demand;
}

/** How many indexes of a list are taken. One or two endpoints are entered several times, until they fill the least size. */
export const indexCount = (slots: Slots): number => slots.length * copiesOf(slots.length);

/** The endpoint at an index, of those below `indexCount`. */
export const endpointAt = (slots: Slots, index: number): Endpoint | undefined =>
  index < indexCount(slots) ? slots[index % slots.length] : undefined;

/** Where the indexes of one list are kept for one frontend. */
export interface IndexPlace {
  readonly set: string;
  readonly frontend: readonly (string | number)[];
  readonly first: number;
}

/** For every frontend that chooses from the list. */
export function indexPlaces(
  key: ServicePortKey,
  spec: ServicePortSpec,
  family: Family,
  list: 'cluster' | 'local',
): IndexPlace[] {
  const { proto, port } = portOf(key);
  const sets = setsOf[family];
  const places: IndexPlace[] = [];
  for (const frontend of frontendsOf(spec)) {
    if (frontend.family !== family) continue;
    if (list === 'cluster' ? !usesCluster(frontend) : !usesLocal(frontend)) continue;
    places.push({
      set: frontend.ip === null ? sets.nodePortEndpoint : sets.endpoint,
      frontend: frontendKey(frontend, spec, proto, port),
      first: firstIndex(frontend, list),
    });
  }
  return places;
}

export const indexElement = (place: IndexPlace, index: number, { ip, port }: Endpoint): Element => ({
  set: place.set,
  key: [...place.frontend, place.first + index],
  value: [ip, port],
  comment: null,
});

/** Where a list begins: the local one after the other, where a frontend has both. */
const firstIndex = (frontend: Frontend, list: 'cluster' | 'local'): number =>
  list === 'local' && usesCluster(frontend) ? localIndex : 0;

const frontendKey = (frontend: Frontend, spec: ServicePortSpec, proto: string, port: number): (string | number)[] =>
  frontend.ip === null ? [proto, spec.nodePort] : [frontend.ip, proto, port];

/** Endpoints of the lists that are used, as they come. A list of all endpoints is the entry's own. */
export function listsOf(entry: Entry, family: Family): FamilySlots {
  const used = listsUsed(entry.spec)[family];
  const cluster: Endpoint[] = [];
  const local: Endpoint[] = [];
  for (const endpoint of entry.endpoints) {
    if (familyOf(endpoint.ip) !== family) continue;
    if (used.cluster && inCluster(endpoint)) cluster.push(endpoint);
    if (used.local && inLocal(endpoint)) local.push(endpoint);
  }
  const own = (list: Endpoint[]): Slots => (list.length === entry.endpoints.length ? entry.endpoints : list);
  return { cluster: own(cluster), local: own(local) };
}

/** The affinities of a service port: one for each list that a frontend chooses from. */
export function affinitiesOf(
  key: ServicePortKey,
  proto: string,
  spec: ServicePortSpec,
): { readonly cluster: Affinity | null; readonly local: Affinity | null } {
  const timeoutSeconds = spec.affinityTimeoutSeconds;
  if (timeoutSeconds === 0) return { cluster: null, local: null };
  const used = listsUsed(spec);
  const make = (list: 'cluster' | 'local'): Affinity | null =>
    families.some((family) => used[family][list])
      ? { id: affinityId(key, timeoutSeconds, list), proto, owner: key, timeoutSeconds, list }
      : null;
  return { cluster: make('cluster'), local: make('local') };
}

/** A map cannot change its timeout, so another timeout is another map. */
const affinityId = (key: ServicePortKey, timeoutSeconds: number, list: string): string =>
  createHash('sha256').update(`${key} ${timeoutSeconds} ${list}`).digest('hex').slice(0, 8);

interface PortId {
  readonly proto: string;
  readonly port: number;
}

export function portOf(key: ServicePortKey): PortId {
  const id = parseServicePortKey(key);
  if (id === null) throw new RangeError(`${key} is not a service port key`);
  return { proto: nftProtocol(id.protocol), port: id.port };
}

interface Context extends PortId {
  readonly key: ServicePortKey;
  readonly spec: ServicePortSpec;
  readonly slots: FamilySlots;
  readonly cluster: Affinity | null;
  readonly local: Affinity | null;
}

function frontendElements(demand: Demand, frontend: Frontend, context: Context): void {
  const { key, spec, proto, port, slots } = context;
  const sets = setsOf[frontend.family];
  const at = frontendKey(frontend, spec, proto, port);
  const usable = (spec.usableFamilies & familyBit(frontend.family)) !== 0;
  const comment = noteText({ key, kind: frontend.kind, policy: frontend.policy, usableFamilies: spec.usableFamilies });
  const add = (set: string, value: Verdict | null, note: string | null): void => {
    demand.elements.push({ set, key: at, value, comment: note });
  };

  const { cluster, local } = {
    cluster: usesCluster(frontend) ? slots.cluster : [],
    local: usesLocal(frontend) ? slots.local : [],
  };
  if (cluster.length + local.length > 0) add(kindSet(frontend, sets), null, comment);
  // Clients that may use every endpoint fall through to here when there is none, even if others find one on this node.
  const reachable = usesCluster(frontend) ? cluster : local;
  if (reachable.length === 0) {
    add(frontend.ip === null ? sets.nodePortRefuse : sets.refuse, usable ? 'drop' : 'return', comment);
  }
  if (frontend.kind === 'loadBalancerIP' && (rangedFamilies(spec) & familyBit(frontend.family)) !== 0) {
    add(sets.guarded, null, null);
    for (const range of spec.sourceRanges) {
      if (familyOf(range) !== frontend.family) continue;
      demand.elements.push({ set: sets.sourceRange, key: [...at, range], value: null, comment: null });
    }
  }
  for (const [list, endpoints] of [
    ['cluster', cluster],
    ['local', local],
  ] as const) {
    for (let size = leastSize; size < sizeFor(endpoints.length); size *= 2) {
      const set = frontend.ip === null ? sets.nodePortWide : sets.wide;
      demand.elements.push({ set, key: [...at, size + firstIndex(frontend, list)], value: null, comment: null });
    }
  }
  affinityElements(demand, frontend, at, context);
}

function kindSet(frontend: Frontend, sets: FamilySets): string {
  if (frontend.kind === 'clusterIP') return sets.internal;
  const local = frontend.policy === 'Local';
  if (frontend.ip === null) return local ? sets.nodePortLocal : sets.nodePort;
  return local ? sets.externalLocal : sets.external;
}

function affinityElements(demand: Demand, frontend: Frontend, at: (string | number)[], context: Context): void {
  const { proto, port, spec, slots } = context;
  const sets = setsOf[frontend.family];
  const nodePort = frontend.ip === null;
  const cluster = usesCluster(frontend) ? context.cluster : null;
  const local = usesLocal(frontend) ? context.local : null;
  const affinities = [cluster, local].filter((affinity) => affinity !== null);
  if (affinities.length === 0) return;
  const first = cluster ?? local;
  const remember = (set: string, affinity: Affinity): void => {
    const chain = stickyChain(affinity);
    demand.chains.set(chain.name, chain);
    demand.elements.push({ set, key: at, value: `jump ${stickyName(affinity)}`, comment: null });
  };
  if (first) remember(nodePort ? sets.nodePortSticky : sets.sticky, first);
  if (cluster && local) remember(nodePort ? sets.nodePortStickyLocal : sets.stickyLocal, local);
  const learn = learnChain(affinities);
  demand.chains.set(learn.name, learn);
  demand.elements.push({
    set: nodePort ? sets.nodePortLearn : sets.learn,
    key: at,
    value: `jump ${learn.name}`,
    comment: null,
  });
  const members = new Set([...(cluster ? slots.cluster : []), ...(local ? slots.local : [])]);
  for (const endpoint of members) {
    demand.elements.push({
      set: nodePort ? sets.nodePortMember : sets.member,
      key:
        frontend.ip === null
          ? [proto, endpoint.ip, endpoint.port, spec.nodePort]
          : [proto, endpoint.ip, endpoint.port, frontend.ip, port],
      value: null,
      comment: null,
    });
  }
}
