import type { Ip } from '@octoplane/model/address.ts';
import type { Family, ServicePortKey } from '@octoplane/model/keys.ts';
import {
  compareEndpoints,
  type Endpoint,
  type EndpointId,
  type Entry,
  endpointFlags,
  type RuleSet,
  type ServicePortSpec,
} from '@octoplane/model/rule-set.ts';
import { type Books, sharedElement } from './books.ts';
import { affinityMap, affinityMapForm, copiesOf } from './chains.ts';
import { demandOf, type FamilySlots, noFamilySlots, type Placed, portOf } from './demand.ts';
import { type Element, elementId, elementsEqual } from './element.ts';
import {
  type Frontend,
  type FrontendNote,
  families,
  frontendsOf,
  parseNote,
  usesCluster,
  usesLocal,
} from './frontends.ts';
import type { KernelTable } from './kernel.ts';
import { hasLayout, localIndex, setLayouts, setsOf } from './layout.ts';
import { sameEndpoint } from './slots.ts';
import { visibleEntry } from './visible.ts';
import type { KernelSet } from './wire-table.ts';

/**
 * Reads the table into the books and returns the entries found.
 *
 * An entry is found when all that it needs is there, exactly: its header is taken from the notes beside its frontends and its
 * endpoints from the map, and what follows from both is compared with what is there. Whatever no entry accounts for is debris:
 * the next entry that needs such an element takes it over, and prune removes the rest. So an altered entry is reported as
 * absent, and putting it back writes only what differs.
 */
export function readTable(kernel: KernelTable, books: Books): RuleSet {
  books.clear();
  const found = new Found(kernel);
  books.adoptBalances(found.chains);
  const ruleSet = new Map<ServicePortKey, Entry>();
  for (const [key, notes] of found.notes) {
    const placed = found.entryOf(key, notes);
    if (placed === null || !found.claim(placed)) continue;
    books.adopt(placed);
    ruleSet.set(key, placed.entry);
  }
  for (const element of found.unclaimed()) books.addDebris(element);
  return ruleSet;
}

const dumpAttempts = 5;

interface Note extends FrontendNote {
  readonly ip: Ip | null;
  readonly port: number;
  readonly family: Family;
}

/** Endpoints of one frontend by index. */
interface SlotTable {
  readonly set: string;
  readonly frontend: readonly (string | number)[];
  readonly first: EndpointId[];
  readonly local: EndpointId[];
  claimed: boolean;
}

class Found {
  readonly notes = new Map<ServicePortKey, Note[]>();
  readonly #elements = new Map<string, Element>();
  readonly #slots = new Map<string, SlotTable>();
  readonly #odd: Element[] = [];
  readonly #ranges = new Map<string, string[]>();
  readonly chains: ReadonlySet<string>;
  readonly #maps: ReadonlyMap<string, KernelSet>;
  readonly #timeouts = new Map<string, number>();
  readonly #sharedClaims = new Set<string>();

  constructor(kernel: KernelTable) {
    const sets = kernel.sets();
    const present = new Map(sets.map((set) => [set.name, set]));
    this.#maps = new Map(sets.filter(({ name }) => affinityMapForm.test(name)).map((set) => [set.name, set]));
    for (const { comment, timeoutMs } of this.#maps.values()) {
      const [key = ''] = (comment ?? '').split(' ');
      this.#timeouts.set(key, timeoutMs / 1000);
    }
    this.chains = new Set(kernel.chains().map(({ name }) => name));
    for (const { name } of setLayouts) {
      const set = present.get(name);
      if (set) this.#readSet(kernel, set);
    }
    this.#takeNotes();
  }

  /** The entry that the notes describe, with the endpoints of its frontends; null when they contradict each other. */
  entryOf(key: ServicePortKey, notes: readonly Note[]): Placed | null {
    const spec = this.#specOf(key, notes);
    if (spec === null) return null;
    const IPv4 = this.#slotsOf(key, spec, 'IPv4');
    const IPv6 = this.#slotsOf(key, spec, 'IPv6');
    if (IPv4 === null || IPv6 === null) return null;
    const endpoints = new Map<string, Endpoint>();
    const flagged = (slots: Record<Family, Record<'cluster' | 'local', readonly EndpointId[]>>): void => {
      for (const family of families) {
        for (const list of ['cluster', 'local'] as const) {
          for (const { ip, port } of slots[family][list]) {
            const id = `${ip} ${port}`;
            endpoints.set(id, { ip, port, flags: (endpoints.get(id)?.flags ?? 0) | endpointFlags[list] });
          }
        }
      }
    };
    flagged({ IPv4, IPv6 });
    const resolve = (list: readonly EndpointId[]): Endpoint[] =>
      list.map(({ ip, port }) => endpoints.get(`${ip} ${port}`)).filter((endpoint) => endpoint !== undefined);
    const entry: Entry = { key, spec, endpoints: [...endpoints.values()].sort(compareEndpoints) };
    if (visibleEntry(entry) !== entry) return null;
    const resolved = (slots: { cluster: EndpointId[]; local: EndpointId[] }): FamilySlots =>
      slots.cluster.length + slots.local.length === 0
        ? noFamilySlots
        : { cluster: resolve(slots.cluster), local: resolve(slots.local) };
    return { entry, slots: { IPv4: resolved(IPv4), IPv6: resolved(IPv6) } };
  }

  /** Is everything there that the entry needs? Then it is the entry's from now on. */
  claim(placed: Placed): boolean {
    const { key, spec } = placed.entry;
    const demand = demandOf(placed);
    for (const element of demand.elements) {
      const found = this.#elements.get(elementId(element));
      if (found === undefined || !elementsEqual(found, element)) return false;
    }
    for (const name of demand.chains.keys()) if (!this.chains.has(name)) return false;
    for (const affinity of demand.affinities) {
      for (const family of families) {
        const map = this.#maps.get(affinityMap(affinity, family));
        if (map === undefined || map.timeoutMs !== affinity.timeoutSeconds * 1000) return false;
      }
    }
    const shared = [
      ...demand.clusterIps.map((ip) => elementId(sharedElement('clusterIp', ip))),
      ...demand.pings.map((ip) => elementId(sharedElement('ping', ip))),
    ];
    if (!shared.every((id) => this.#elements.has(id))) return false;

    for (const element of demand.elements) this.#elements.delete(elementId(element));
    for (const id of shared) this.#sharedClaims.add(id);
    for (const frontend of frontendsOf(spec)) {
      const table = this.#slots.get(slotsName(key, spec, frontend));
      if (table) table.claimed = true;
    }
    return true;
  }

  *unclaimed(): Generator<Element> {
    for (const [id, element] of this.#elements) if (!this.#sharedClaims.has(id)) yield element;
    for (const table of this.#slots.values()) if (!table.claimed) yield* tableElements(table);
    yield* this.#odd;
  }

  #readSet(kernel: KernelTable, { name, count }: KernelSet): void {
    const slots = families.some(
      (family) => name === setsOf[family].endpoint || name === setsOf[family].nodePortEndpoint,
    );
    const elements: Element[] = [];
    let seen = 0;
    const forget = (): void => {
      seen = 0;
      elements.splice(0);
      for (const [id, table] of this.#slots) if (table.set === name) this.#slots.delete(id);
    };
    const take = (element: Element | null): void => {
      seen++;
      if (element === null) return;
      if (slots) this.#takeSlot(element);
      else elements.push(element);
    };
    // The kernel spreads a hash that has grown over more buckets in the background, and a dump meanwhile misses elements.
    for (let attempt = 1; attempt <= dumpAttempts; attempt++) {
      forget();
      kernel.dump(name, take, forget);
      if (count === null || seen >= count) break;
    }
    for (const element of elements) {
      this.#elements.set(elementId(element), element);
      if (name === setsOf.IPv4.sourceRange || name === setsOf.IPv6.sourceRange) this.#takeRange(element);
    }
  }

  #takeSlot(element: Element): void {
    const frontend = element.key.slice(0, -1);
    const index = Number(element.key.at(-1));
    const id = `${element.set} ${frontend.join(' ')}`;
    let table = this.#slots.get(id);
    if (table === undefined) {
      table = { set: element.set, frontend, first: [], local: [], claimed: false };
      this.#slots.set(id, table);
    }
    const [ip, port] = Array.isArray(element.value) ? element.value : ['', 0];
    const endpoint = { ip: String(ip), port: Number(port) };
    if (index < localIndex) table.first[index] = endpoint;
    else if (index < 2 * localIndex) table.local[index - localIndex] = endpoint;
    else this.#odd.push(element);
  }

  #takeRange(element: Element): void {
    const id = element.key.slice(0, -1).join(' ');
    const ranges = this.#ranges.get(id);
    const range = String(element.key.at(-1));
    if (ranges) ranges.push(range);
    else this.#ranges.set(id, [range]);
  }

  #takeNotes(): void {
    const seen = new Set<string>();
    for (const element of this.#elements.values()) {
      const note = element.comment === null ? null : parseNote(element.comment);
      if (note === null || !hasLayout(element.set)) continue;
      const family: Family = element.set.endsWith('6') ? 'IPv6' : 'IPv4';
      const nodePort = note.kind === 'nodePort';
      const ip = nodePort ? null : String(element.key[0]);
      const port = Number(element.key.at(-1));
      const id = `${note.key} ${family} ${note.kind} ${ip} ${port}`;
      // A frontend may stand in two maps, where it goes and where it is refused.
      if (seen.has(id)) continue;
      seen.add(id);
      const notes = this.notes.get(note.key);
      const taken = { ...note, ip, port, family };
      if (notes) notes.push(taken);
      else this.notes.set(note.key, [taken]);
    }
  }

  #specOf(key: ServicePortKey, notes: readonly Note[]): ServicePortSpec | null {
    const ips = (kind: Note['kind']): Ip[] =>
      notes
        .filter((note) => note.kind === kind)
        .map((note) => note.ip ?? '')
        .sort();
    const { proto, port } = portOf(key);
    const loadBalancerIps = ips('loadBalancerIP');
    const ranges = new Set(loadBalancerIps.flatMap((ip) => this.#ranges.get(`${ip} ${proto} ${port}`) ?? []));
    const internal = notes.find((note) => note.kind === 'clusterIP');
    const external = notes.find((note) => note.kind !== 'clusterIP');
    return {
      clusterIps: ips('clusterIP'),
      externalIps: ips('externalIP'),
      loadBalancerIps,
      nodePort: notes.find((note) => note.kind === 'nodePort')?.port ?? 0,
      internalPolicy: internal?.policy ?? 'Cluster',
      externalPolicy: external?.policy ?? 'Cluster',
      affinityTimeoutSeconds: this.#timeouts.get(key) ?? 0,
      sourceRanges: [...ranges].sort(),
      healthCheckNodePort: 0,
      usableFamilies: notes[0]?.usableFamilies ?? 0,
    };
  }

  #slotsOf(
    key: ServicePortKey,
    spec: ServicePortSpec,
    family: Family,
  ): { cluster: EndpointId[]; local: EndpointId[] } | null {
    let cluster: EndpointId[] | null = null;
    let local: EndpointId[] | null = null;
    for (const frontend of frontendsOf(spec)) {
      if (frontend.family !== family) continue;
      const table = this.#slots.get(slotsName(key, spec, frontend)) ?? { first: [], local: [] };
      const lists = usesCluster(frontend)
        ? {
            cluster: table.first,
            local: usesLocal(frontend) ? table.local : null,
            surplus: usesLocal(frontend) ? [] : table.local,
          }
        : { cluster: null, local: table.first, surplus: table.local };
      if (lists.surplus.length > 0) return null;
      if (lists.cluster) {
        if (cluster && !sameSlots(cluster, lists.cluster)) return null;
        cluster = lists.cluster;
      }
      if (lists.local) {
        if (local && !sameSlots(local, lists.local)) return null;
        local = lists.local;
      }
    }
    const slots = { cluster: slotsIn(cluster ?? []), local: slotsIn(local ?? []) };
    return slots.cluster && slots.local ? { cluster: slots.cluster, local: slots.local } : null;
  }
}

/** The endpoints whose indexes these are, see `indexCount`; null when no list has these. */
function slotsIn(indexes: EndpointId[]): EndpointId[] | null {
  if (Object.keys(indexes).length !== indexes.length) return null;
  for (let count = 0; count <= indexes.length; count++) {
    if (count * copiesOf(count) !== indexes.length) continue;
    if (indexes.every((endpoint, i) => sameEndpoint(endpoint, indexes[i % count]))) return indexes.slice(0, count);
  }
  return null;
}

function slotsName(key: ServicePortKey, spec: ServicePortSpec, frontend: Frontend): string {
  const { proto, port } = portOf(key);
  const sets = setsOf[frontend.family];
  return frontend.ip === null
    ? `${sets.nodePortEndpoint} ${proto} ${spec.nodePort}`
    : `${sets.endpoint} ${frontend.ip} ${proto} ${port}`;
}

const sameSlots = (a: readonly EndpointId[], b: readonly EndpointId[]): boolean =>
  a.length === b.length && a.every((endpoint, i) => endpoint.ip === b[i]?.ip && endpoint.port === b[i]?.port);

function* tableElements(table: SlotTable): Generator<Element> {
  for (const [offset, list] of [
    [0, table.first],
    [localIndex, table.local],
  ] as const) {
    for (const [i, endpoint] of Object.entries(list)) {
      const key = [...table.frontend, Number(i) + offset];
      yield { set: table.set, key, value: [endpoint.ip, endpoint.port], comment: null };
    }
  }
}
