import { createHash } from 'node:crypto';
import { familyOf, type Ip } from '@octoplane/model/address.ts';
import { type Family, parseServicePortKey, type ServicePortKey } from '@octoplane/model/keys.ts';
import { type Endpoint, type Entry, familyBit, type ServicePortSpec } from '@octoplane/model/rule-set.ts';
import { type Affinity, type Chain, type Choice, chainsOf, choiceName, learningChain } from './chains.ts';
import type { Element, Verdict } from './element.ts';
import { type Frontend, families, frontendsOf, listsUsed, noteText, usesCluster, usesLocal } from './frontends.ts';
import { frameChains, localIndex, nftProtocol, setsOf } from './layout.ts';
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

/** Objects that an entry needs beside the elements of its slots. */
export interface Demand {
  /** Of this entry alone. */
  readonly elements: Element[];
  /** By name; others may need the same. */
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

/** The elements for one index of one list, in every frontend that chooses from the list. */
export function slotElements(
  key: ServicePortKey,
  spec: ServicePortSpec,
  list: 'cluster' | 'local',
  index: number,
  endpoint: Endpoint,
): Element[] {
  const { proto, port } = portOf(key);
  const family = familyOf(endpoint.ip);
  const sets = setsOf[family];
  const elements: Element[] = [];
  for (const frontend of frontendsOf(spec)) {
    if (frontend.family !== family) continue;
    if (list === 'cluster' ? !usesCluster(frontend) : !usesLocal(frontend)) continue;
    const at = list === 'local' && usesCluster(frontend) ? index + localIndex : index;
    elements.push({
      set: frontend.ip === null ? sets.nodePortEndpoint : sets.endpoint,
      key: frontend.ip === null ? [proto, spec.nodePort, at] : [frontend.ip, proto, port, at],
      value: [endpoint.ip, endpoint.port],
      comment: null,
    });
  }
  return elements;
}

/** Endpoints of the lists that are used, as they come. */
export function listsOf(entry: Entry, family: Family): { readonly cluster: Endpoint[]; readonly local: Endpoint[] } {
  const used = listsUsed(entry.spec)[family];
  const cluster: Endpoint[] = [];
  const local: Endpoint[] = [];
  for (const endpoint of entry.endpoints) {
    if (familyOf(endpoint.ip) !== family) continue;
    if (used.cluster && inCluster(endpoint)) cluster.push(endpoint);
    if (used.local && inLocal(endpoint)) local.push(endpoint);
  }
  return { cluster, local };
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
  const nodePort = frontend.ip === null;
  const sets = setsOf[frontend.family];
  const at = frontend.ip === null ? [proto, spec.nodePort] : [frontend.ip, proto, port];
  const note = noteText({ key, kind: frontend.kind, policy: frontend.policy, usableFamilies: spec.usableFamilies });
  const add = (set: string, value: Verdict, comment: string | null = null): void => {
    demand.elements.push({ set, key: at, value, comment });
  };
  const choose = (mark: Choice['mark'], list: 'cluster' | 'local', offset: boolean): Verdict => {
    const choice: Choice = {
      frontend: nodePort ? 'node-port' : 'service',
      mark,
      list: offset ? 'local' : 'first',
      count: slots[list].length,
      affinity: context[list],
    };
    for (const chain of chainsOf(choice)) demand.chains.set(chain.name, chain);
    return `goto ${choiceName(choice)}`;
  };

  const ranged = frontend.kind === 'loadBalancerIP' && (rangedFamilies(spec) & familyBit(frontend.family)) !== 0;
  const dispatch = (verdict: Verdict): void => {
    if (ranged) {
      add(sets.service, `goto ${frameChains.sourceRanges}`, note);
      add(sets.ranged, verdict);
    } else {
      add(nodePort ? sets.nodePort : sets.service, verdict, note);
    }
  };
  const refuse = (): void => {
    const reject = `goto ${ranged ? frameChains.rejectInRange : frameChains.reject}`;
    const usable = (spec.usableFamilies & familyBit(frontend.family)) !== 0;
    add(nodePort ? sets.nodePortRefuse : sets.refuse, usable ? 'drop' : reject, note);
  };

  if (ranged && frontend.ip !== null) {
    for (const range of spec.sourceRanges) {
      if (familyOf(range) !== frontend.family) continue;
      demand.elements.push({ set: sets.sourceRange, key: [...at, range], value: null, comment: null });
    }
  }
  if (frontend.kind === 'clusterIP') {
    const list = frontend.policy === 'Local' ? 'local' : 'cluster';
    if (slots[list].length > 0) dispatch(choose('off-cluster', list, false));
    else refuse();
  } else if (frontend.policy === 'Cluster') {
    if (slots.cluster.length > 0) dispatch(choose('all', 'cluster', false));
    else refuse();
  } else if (slots.cluster.length === 0 && slots.local.length === 0) {
    refuse();
  } else {
    dispatch(`goto ${nodePort ? frameChains.nodePortLocal : frameChains.local}`);
    const inside = slots.cluster.length > 0 ? choose('none', 'cluster', false) : 'return';
    const outside = slots.local.length > 0 ? choose('none', 'local', true) : 'drop';
    add(nodePort ? sets.nodePortInside : sets.inside, inside);
    add(nodePort ? sets.nodePortOutside : sets.outside, outside);
    if (slots.cluster.length === 0) refuse();
  }
  if (context.cluster || context.local) learnElements(demand, frontend, context);
}

function learnElements(demand: Demand, frontend: Frontend, context: Context): void {
  const { proto, port, spec, slots } = context;
  const sets = setsOf[frontend.family];
  const lists = new Map<string, { readonly endpoint: Endpoint; readonly affinities: Affinity[] }>();
  const learn = (list: Slots, affinity: Affinity | null): void => {
    if (affinity === null) return;
    for (const endpoint of list) {
      const id = `${endpoint.ip} ${endpoint.port}`;
      const known = lists.get(id);
      if (known) known.affinities.push(affinity);
      else lists.set(id, { endpoint, affinities: [affinity] });
    }
  };
  if (usesCluster(frontend)) learn(slots.cluster, context.cluster);
  if (usesLocal(frontend)) learn(slots.local, context.local);
  for (const { endpoint, affinities } of lists.values()) {
    const chain = learningChain(affinities);
    demand.chains.set(chain.name, chain);
    demand.elements.push({
      set: frontend.ip === null ? sets.nodePortLearn : sets.learn,
      key:
        frontend.ip === null
          ? [proto, endpoint.ip, endpoint.port, spec.nodePort]
          : [proto, endpoint.ip, endpoint.port, frontend.ip, port],
      value: `jump ${chain.name}`,
      comment: null,
    });
  }
}
