import { familyOf, type Ip } from '@octoplane/model/address.ts';
import { type Family, parseServicePortKey, type ServicePortKey } from '@octoplane/model/keys.ts';
import { compareEndpoints, type Endpoint, type Entry, endpointFlags, familyBit } from '@octoplane/model/rule-set.ts';
import {
  allFamilies,
  type FrontendKind,
  type FrontendNote,
  frontendsOf,
  isSplit,
  type Places,
  parseNote,
} from './frontends.ts';
import { elementText, type PlannedElement } from './layout.ts';
import type { FoundService } from './protocol.ts';
import { setSpec } from './set-names.ts';
import type { SetElement } from './sets.ts';
import { type BusyDestination, idText, type VirtualServiceId } from './virtual-service.ts';

/** The kernel as `dump` found it. */
export interface Found {
  /** By elementText. */
  readonly elements: ReadonlyMap<string, PlannedElement>;
  /** By idText; ours alone. */
  readonly services: ReadonlyMap<string, FoundService>;
  /** Service addresses that are local. */
  readonly addresses: ReadonlySet<Ip>;
  readonly scheduler: string;
  readonly places: Places;
  /** Source ranges of a frontend, each once. */
  sources(element: SetElement): readonly string[];
  destinations(id: VirtualServiceId): readonly BusyDestination[];
}

interface FoundFrontend {
  readonly note: FrontendNote;
  readonly family: Family;
  readonly element: SetElement;
  readonly id: VirtualServiceId & { readonly t: 'address' };
}

/**
 * Entries, from what the kernel holds of their frontends. A frontend that is not whole (no virtual service, another
 * scheduler, no route, endpoints unlike those of its siblings) is left out of its entry, and so put right as if it were new.
 */
export function entriesIn(found: Found): Map<ServicePortKey, Entry> {
  const byKey = new Map<ServicePortKey, FoundFrontend[]>();
  for (const { set, element } of found.elements.values()) {
    const frontend = frontendOf(element, set.family, found.places);
    if (!frontend) continue;
    const others = byKey.get(frontend.note.key);
    if (others) others.push(frontend);
    else byKey.set(frontend.note.key, [frontend]);
  }
  const entries = new Map<ServicePortKey, Entry>();
  for (const [key, frontends] of byKey) {
    const entry = entryOf(key, frontends, found);
    if (entry) entries.set(key, entry);
  }
  return entries;
}

function frontendOf(element: SetElement, family: Family, places: Places): FoundFrontend | null {
  const note = parseNote(element.comment);
  const { ip, port, protocol } = element;
  if (note === null || port === undefined || protocol === undefined) return null;
  if (note.kind === 'nodePort' && !places.nodeAddresses.includes(ip)) return null;
  if (parseServicePortKey(note.key)?.protocol !== protocol) return null;
  return { note, family, element, id: { t: 'address', ip, port, protocol } };
}

/** What the frontends of one entry have in common. */
class Gathered {
  readonly frontends: FoundFrontend[] = [];
  readonly #endpoints = new Map<string, Endpoint>();
  readonly #chosen = new Map<string, string>();
  readonly #found: Found;
  #note: FrontendNote | null = null;
  /** Until a frontend with endpoints was seen: null. */
  #persistenceSeconds: number | null = null;
  /** Is a family usable elsewhere? Said by its frontends without endpoints. */
  readonly #unserved: Record<Family, boolean | null> = { IPv4: null, IPv6: null };
  /** Bits of families with a frontend that has some. */
  #served = 0;
  readonly #ports = new Map<FrontendKind, number>();

  constructor(found: Found) {
    this.#found = found;
  }

  get persistenceSeconds(): number | null {
    return this.#persistenceSeconds;
  }

  get usableFamilies(): number {
    return allFamilies.reduce((mask, family) => {
      const bit = familyBit(family);
      return (this.#unserved[family] ?? (this.#served & bit) !== 0) ? mask | bit : mask;
    }, 0);
  }

  get endpoints(): Endpoint[] {
    return [...this.#endpoints.values()].sort(compareEndpoints);
  }

  /** Takes the frontend in when it is whole and agrees with those before it. */
  add(frontend: FoundFrontend): void {
    const { note, family, element, id } = frontend;
    const parts: [VirtualServiceId, 'cluster' | 'local'][] = [[id, note.policy === 'Local' ? 'local' : 'cluster']];
    if (isSplit(note)) {
      const near = this.#element('near', frontend);
      if (near?.mark === undefined || near.mark === 0) return;
      parts.push([{ t: 'mark', family, mark: near.mark }, 'cluster']);
    }
    if (note.kind !== 'nodePort' && !this.#found.addresses.has(element.ip)) return;
    if (!this.#agrees(note, element.port ?? 0) || !parts.every(([part]) => this.#isWhole(part))) return;

    const open = parts.map(([part]) => this.#found.destinations(part).filter(({ weight }) => weight === 1));
    const isAway = this.#element('away', frontend) !== undefined;
    const isServed = (open[0]?.length ?? 0) > 0;
    if (!isServed && isAway === (this.#element('none', frontend) !== undefined)) return;
    const names = parts.map(([, list]) => `${list} ${family}`);
    const texts = open.map(textOf);
    const seconds = this.#persistenceOf(parts.filter((_, i) => (open[i]?.length ?? 0) > 0).map(([part]) => part));
    if (seconds !== null && seconds !== (this.#persistenceSeconds ?? seconds)) return;
    if (!isServed && (this.#unserved[family] ?? isAway) !== isAway) return;
    if (names.some((name, i) => (this.#chosen.get(name) ?? texts[i]) !== texts[i])) return;

    for (const [i, [, list]] of parts.entries()) {
      this.#chosen.set(names[i] ?? '', texts[i] ?? '');
      for (const destination of open[i] ?? []) this.#flag(destination, endpointFlags[list]);
    }
    this.#note ??= note;
    this.#persistenceSeconds ??= seconds;
    if (isServed) this.#served |= familyBit(family);
    else this.#unserved[family] = isAway;
    this.#ports.set(note.kind, element.port ?? 0);
    this.frontends.push(frontend);
  }

  /** Without endpoints there is none, and none is missed. */
  #isWhole(id: VirtualServiceId): boolean {
    const service = this.#found.services.get(idText(id));
    return !service || (service.regular && service.scheduler === this.#found.scheduler);
  }

  /** Of those with endpoints; null: there are none. */
  #persistenceOf(ids: readonly VirtualServiceId[]): number | null {
    const found = ids.map((id) => this.#found.services.get(idText(id))?.persistenceSeconds ?? 0);
    const [first] = found;
    if (first === undefined) return null;
    return found.every((seconds) => seconds === first) ? first : Number.NaN;
  }

  #agrees(note: FrontendNote, port: number): boolean {
    if (this.#note === null) return true;
    if ((this.#ports.get(note.kind) ?? port) !== port) return false;
    const sibling = this.frontends.find(
      ({ note: other }) => (other.kind === 'clusterIP') === (note.kind === 'clusterIP'),
    );
    return sibling === undefined || sibling.note.policy === note.policy;
  }

  #element(role: 'near' | 'away' | 'none', { element, family }: FoundFrontend): SetElement | undefined {
    return this.#found.elements.get(elementText({ set: setSpec(role, family), element }))?.element;
  }

  #flag({ ip, port }: BusyDestination, flag: number): void {
    const text = `${ip} ${port}`;
    const flags = (this.#endpoints.get(text)?.flags ?? 0) | flag;
    this.#endpoints.set(text, { ip, port, flags });
  }
}

function entryOf(key: ServicePortKey, candidates: readonly FoundFrontend[], found: Found): Entry | null {
  const gathered = new Gathered(found);
  const ranges = rangesOf(candidates, found);
  for (const frontend of candidates) if (ranges.agreesWith(frontend)) gathered.add(frontend);
  const { frontends } = gathered;
  const [first] = frontends;
  if (!first) return null;
  const ips = (wanted: FrontendKind) =>
    frontends
      .filter(({ note }) => note.kind === wanted)
      .map(({ element }) => element.ip)
      .sort();
  const policyOf = (internal: boolean) =>
    frontends.find(({ note }) => (note.kind === 'clusterIP') === internal)?.note.policy ?? 'Cluster';
  const loadBalancerIps = ips('loadBalancerIP');
  const nodePorts = frontends.filter(({ note }) => note.kind === 'nodePort');
  const spec = {
    clusterIps: ips('clusterIP'),
    externalIps: ips('externalIP'),
    loadBalancerIps,
    nodePort: nodePorts[0]?.element.port ?? 0,
    internalPolicy: policyOf(true),
    externalPolicy: policyOf(false),
    affinityTimeoutSeconds: gathered.persistenceSeconds ?? 0,
    sourceRanges: ranges.of(loadBalancerIps),
    healthCheckNodePort: 0,
    usableFamilies: gathered.usableFamilies,
  };
  // A node port that does not answer on every address of the node is put in place anew.
  const expected = [...frontendsOf(spec, 1, found.places)].filter(({ kind }) => kind === 'nodePort').length;
  return {
    key,
    spec: nodePorts.length === expected ? spec : { ...spec, nodePort: 0 },
    endpoints: gathered.endpoints,
  };
}

/** Source ranges per load balancer's address, which are one list in an entry. */
function rangesOf(candidates: readonly FoundFrontend[], found: Found) {
  const byIp = new Map<Ip, string[]>();
  for (const { note, element, family } of candidates) {
    if (note.kind !== 'loadBalancerIP') continue;
    const isRanged = found.elements.has(elementText({ set: setSpec('ranged', family), element }));
    byIp.set(element.ip, isRanged ? [...found.sources(element)].sort() : []);
  }
  const sibling = (ip: Ip) => [...byIp].find(([other]) => familyOf(other) === familyOf(ip))?.[1];
  return {
    agreesWith: ({ note, element }: FoundFrontend): boolean =>
      note.kind !== 'loadBalancerIP' || String(byIp.get(element.ip)) === String(sibling(element.ip)),
    of: (ips: readonly Ip[]): string[] => [...new Set(ips.flatMap((ip) => byIp.get(ip) ?? []))].sort(),
  };
}

const textOf = (destinations: readonly BusyDestination[]): string =>
  destinations
    .map(({ ip, port }) => `${ip} ${port}`)
    .sort()
    .join();
