import { type Cidr, cidrContains, familyOf, type Ip, parseCidr } from '@octoplane/model/address.ts';
import { type Family, type Protocol, parseServicePortKey } from '@octoplane/model/keys.ts';
import {
  type EndpointId,
  type Entry,
  endpointFlags,
  familyBit,
  type TrafficPolicy,
} from '@octoplane/model/rule-set.ts';
import { type Frontend, frontendsOf, isSplit, noteText, type Places } from './frontends.ts';
import { setSpec } from './set-names.ts';
import type { SetElement, SetSpec } from './sets.ts';
import { idText, type VirtualService } from './virtual-service.ts';

/** What one entry is in the kernel. Pure: the same entry is always the same objects, so two layouts can be compared. */
export interface Layout {
  /** By idText. */
  readonly services: ReadonlyMap<string, PlannedService>;
  /** By elementText; in the order in which they are to be added. */
  readonly elements: ReadonlyMap<string, PlannedElement>;
  /** Service addresses, and whether they answer a ping. Other entries may want them too. */
  readonly addresses: ReadonlyMap<Ip, boolean>;
}

export interface PlannedService {
  readonly service: VirtualService;
  readonly protocol: Protocol;
  /** By destinationText. */
  readonly destinations: ReadonlyMap<string, PlannedDestination>;
}

export interface PlannedDestination extends EndpointId {
  /** It keeps the connections that it has and gets no new ones. */
  readonly draining: boolean;
}

export interface PlannedElement {
  readonly set: SetSpec;
  readonly element: SetElement;
}

export interface LayoutSettings extends Places {
  readonly scheduler: string;
}

export const noLayout: Layout = { services: new Map(), elements: new Map(), addresses: new Map() };

/** Without the comment and the mark: what the kernel takes for the same element. */
export function elementText({ set, element }: PlannedElement): string {
  const { ip, port = '', protocol = '', net } = element;
  return `${set.name} ${ip} ${protocol} ${port} ${net ? `${net.ip}/${net.length}` : ''}`;
}

export const destinationText = ({ ip, port }: EndpointId): string => `${ip} ${port}`;

/** `mark`: for the entry's external frontends, when it has the Local policy; 0: it has none yet, or no longer. */
export function layoutOf(entry: Entry, settings: LayoutSettings, mark: number): Layout {
  const id = parseServicePortKey(entry.key);
  if (id === null) throw new RangeError(`${entry.key} is not a service port`);
  const services = new Map<string, PlannedService>();
  const elements = new Map<string, PlannedElement>();
  const addresses = new Map<Ip, boolean>();
  const destinations = destinationsOf(entry);
  const add = (set: SetSpec, element: SetElement) => elements.set(elementText({ set, element }), { set, element });
  const serve = (serviceId: VirtualService['id'], family: Family, policy: TrafficPolicy) => {
    const service = {
      id: serviceId,
      scheduler: settings.scheduler,
      persistenceSeconds: entry.spec.affinityTimeoutSeconds,
    };
    const chosen = destinations(family, policy);
    // A virtual service without any would refuse connections of this node itself only a second later: see rules.ts.
    if (chosen.size > 0) services.set(idText(serviceId), { service, protocol: id.protocol, destinations: chosen });
    return chosen;
  };

  for (const frontend of frontendsOf(entry.spec, id.port, settings)) {
    const { family, kind, ip, port, policy } = frontend;
    const usable = (entry.spec.usableFamilies & familyBit(family)) !== 0;
    const at = { ip, port, protocol: id.protocol };
    const comment = noteText({ key: entry.key, kind, policy });
    if (kind === 'loadBalancerIP') {
      for (const element of sourcesOf(entry.spec.sourceRanges, at, settings.nodeAddresses)) {
        add(setSpec('sources', family), element);
        add(setSpec('ranged', family), { ...at, comment: entry.key });
      }
    }
    const chosen = serve({ t: 'address', ...at }, family, policy);
    if (!hasOpen(chosen)) add(setSpec(usable ? 'away' : 'none', family), { ...at, comment: entry.key });
    if (isSplit(frontend) && mark !== 0) {
      serve({ t: 'mark', family, mark }, family, 'Cluster');
      add(setSpec('near', family), { ...at, comment: entry.key, mark });
    }
    add(setSpec(roleOf(frontend), family), { ...at, comment });
    if (kind !== 'nodePort') addresses.set(ip, usable);
  }
  return { services, elements, addresses };
}

/** Does the entry need a mark? */
export const needsMark = (entry: Entry, settings: LayoutSettings): boolean =>
  entry.spec.externalPolicy === 'Local' && frontendsOf(entry.spec, 1, settings).some(isSplit);

function roleOf({ kind, policy }: Frontend): 'internal' | 'external' | 'local' {
  if (kind === 'clusterIP') return 'internal';
  return policy === 'Local' ? 'local' : 'external';
}

/** Does it take new connections? Without, it is there only as long as it has old ones. */
export const hasOpen = (destinations: PlannedService['destinations']): boolean =>
  destinations.values().some(({ draining }) => !draining);

/** Frontends of the same family and policy share one map. */
function destinationsOf(entry: Entry): (family: Family, policy: TrafficPolicy) => PlannedService['destinations'] {
  const made = new Map<string, PlannedService['destinations']>();
  return (family, policy) => {
    const name = family + policy;
    let chosen = made.get(name);
    if (!chosen) {
      chosen = chooseDestinations(entry, family, policy === 'Local' ? endpointFlags.local : endpointFlags.cluster);
      made.set(name, chosen);
    }
    return chosen;
  };
}

function chooseDestinations(entry: Entry, family: Family, flag: number): PlannedService['destinations'] {
  const chosen = new Map<string, PlannedDestination>();
  for (const { ip, port, flags } of entry.endpoints) {
    const draining = (flags & endpointFlags.draining) !== 0;
    if (familyOf(ip) === family && (draining || (flags & flag) !== 0))
      chosen.set(destinationText({ ip, port }), { ip, port, draining });
  }
  return chosen;
}

/** What admits the node itself: its connections to a service address begin at that very address. */
export const ownSource = 'this node';

/** Elements of the set of sources for one frontend; none: everybody is admitted. A family without ranges of its own admits everybody, as in kube-proxy. */
function* sourcesOf(
  ranges: readonly string[],
  at: Required<Pick<SetElement, 'ip' | 'port' | 'protocol'>>,
  nodeAddresses: readonly Ip[],
): Generator<SetElement> {
  const family = familyOf(at.ip);
  let admitsNode = false;
  for (const text of effectiveRanges(ranges, family)) {
    const range = parseCidr(text);
    if (range === null) continue;
    admitsNode ||= nodeAddresses.some((ip) => cidrContains(range, ip));
    for (const net of withoutLengthZero(range)) yield { ...at, net, comment: text };
  }
  if (admitsNode) yield { ...at, net: { ip: at.ip, length: family === 'IPv4' ? 32 : 128 }, comment: ownSource };
}

/** Those of a family; of several, among which one admits everybody, that one alone. */
export function effectiveRanges(ranges: readonly string[], family: Family): readonly string[] {
  const everybody = family === 'IPv4' ? '0.0.0.0/0' : '::/0';
  return ranges.includes(everybody) ? [everybody] : ranges.filter((text) => familyOf(text) === family);
}

/** Sets hold no network of length 0: it is two halves there. */
function withoutLengthZero(range: Cidr): Cidr[] {
  if (range.length > 0) return [range];
  const upper = familyOf(range.ip) === 'IPv4' ? '128.0.0.0' : '8000::';
  return [
    { ip: range.ip, length: 1 },
    { ip: upper, length: 1 },
  ];
}
