import { type Cidr, familyOf, formatCidr, type Ip } from '@octoplane/model/address.ts';
import type { Family, ServiceName } from '@octoplane/model/keys.ts';
import type { Service, ServicePort } from '@octoplane/model/objects.ts';
import { addressClaim, type Claim, clusterIpClaim, nodePortClaim } from '../state/claims.ts';
import { AddressRange, hash } from './address-range.ts';

/** What one Service was given beyond what it names. */
export interface Allocation {
  /** At most one per family. */
  readonly clusterIps: readonly Ip[];
  /** By "PORT/PROTOCOL". */
  readonly nodePorts: Readonly<Record<string, number>>;
  /** 0: none. */
  readonly healthCheckNodePort: number;
}

export type Allocations = ReadonlyMap<ServiceName, Allocation>;

export interface AllocatorOptions {
  /** --service-cidr: at most one per family; the first is the default family. */
  readonly serviceCidrs: readonly Cidr[];
  /** Inclusive. Default 30000 to 32767, as in Kubernetes. */
  readonly nodePorts?: { readonly first: number; readonly last: number };
  /** As kept from earlier runs. */
  readonly allocations?: Allocations;
}

export type Completed =
  | { readonly t: 'complete'; readonly service: Service }
  | { readonly t: 'refused'; readonly reason: string };

/**
 * Gives cluster IPs and node ports to Services that name none.
 *
 *   1. A Service keeps what it was given until it is deleted or names its own; allocations are kept on disk by book.ts.
 *   2. Without the book the same names get the same addresses again, unless two of them fall on the same one: each name has a
 *      fixed first choice.
 *   3. What somebody names is never given to another. A Service that names what another was given gets it, and the other
 *      is given something else.
 */
export class Allocator {
  readonly #ranges: readonly AddressRange[];
  readonly #nodePorts: { readonly first: number; readonly last: number };
  readonly #given: Map<ServiceName, Allocation>;
  readonly #owners = new Map<Claim, ServiceName>();
  #revision = 0;

  constructor(options: AllocatorOptions) {
    this.#ranges = options.serviceCidrs.map((cidr) => new AddressRange(cidr));
    this.#nodePorts = options.nodePorts ?? { first: 30_000, last: 32_767 };
    this.#given = new Map();
    for (const [name, allocation] of options.allocations ?? []) {
      this.#given.set(name, allocation);
      this.#own(name, allocation);
    }
  }

  /** Grows with every change of the allocations. */
  get revision(): number {
    return this.#revision;
  }

  get allocations(): Allocations {
    return this.#given;
  }

  /** The Service that was given what the claim is about. */
  ownerOf(claim: Claim): ServiceName | null {
    return this.#owners.get(claim) ?? null;
  }

  release(name: ServiceName): void {
    const allocation = this.#given.get(name);
    if (!allocation) return;
    for (const claim of claimsOfAllocation(allocation)) this.#owners.delete(claim);
    this.#given.delete(name);
    this.#revision++;
  }

  /**
   * The Service with everything filled in. `isFree` says whether nobody else names what a claim is about.
   * What the Service was given before stays wherever that is still wanted and free.
   */
  complete(service: Service, isFree: (claim: Claim) => boolean): Completed {
    const before = this.#given.get(service.name) ?? nothing;
    const free = (claim: Claim): boolean => {
      const owner = this.#owners.get(claim);
      return (owner === undefined || owner === service.name) && isFree(claim);
    };
    const addresses = this.#addresses(service, before, free);
    if (addresses.t === 'refused') return addresses;
    const ports = this.#servicePorts(service, before, free);
    if (ports === null) return { t: 'refused', reason: this.#noNodePort() };
    const used = new Set(ports.map(({ nodePort, protocol }) => nodePortClaim(nodePort, protocol)));
    const healthCheckNodePort = wantsHealthCheckNodePort(service)
      ? this.#port(before.healthCheckNodePort, `${service.name} health check`, (port) => {
          const claim = nodePortClaim(port, 'TCP');
          return !used.has(claim) && free(claim);
        })
      : 0;
    if (healthCheckNodePort === null) return { t: 'refused', reason: this.#noNodePort() };
    const given = ports.filter((port, i) => port !== service.ports[i]);
    const nodePorts = Object.fromEntries(given.map((port) => [portId(port), port.nodePort]));
    this.#keep(service.name, before, { clusterIps: addresses.given, nodePorts, healthCheckNodePort });
    return {
      t: 'complete',
      service: {
        ...service,
        clusterIps: [...service.clusterIps, ...addresses.given],
        ports,
        healthCheckNodePort: healthCheckNodePort || service.healthCheckNodePort,
      },
    };
  }

  /** With node ports where they are wanted; null when none is left. */
  #servicePorts(service: Service, before: Allocation, free: (claim: Claim) => boolean): readonly ServicePort[] | null {
    if (!wantsNodePorts(service)) return service.ports;
    const used = new Set(service.ports.map(({ nodePort, protocol }) => nodePortClaim(nodePort, protocol)));
    const ports: ServicePort[] = [];
    for (const port of service.ports) {
      if (port.nodePort !== 0) {
        ports.push(port);
        continue;
      }
      // The seed leaves the protocol out: TCP and UDP of one port get the same number where both are free.
      const nodePort = this.#port(before.nodePorts[portId(port)] ?? 0, `${service.name}:${port.port}`, (candidate) => {
        const claim = nodePortClaim(candidate, port.protocol);
        return !used.has(claim) && free(claim);
      });
      if (nodePort === null) return null;
      used.add(nodePortClaim(nodePort, port.protocol));
      ports.push({ ...port, nodePort });
    }
    return ports;
  }

  #addresses(
    service: Service,
    before: Allocation,
    free: (claim: Claim) => boolean,
  ): { t: 'given'; given: Ip[] } | { t: 'refused'; reason: string } {
    const given: Ip[] = [];
    for (const { family, required } of this.#missingFamilies(service)) {
      const range = this.#ranges.find((candidate) => candidate.family === family);
      if (!range) {
        if (!required) continue;
        return {
          t: 'refused',
          reason: `asks for an ${family} address, but --service-cidr has no ${family} network; add one`,
        };
      }
      const ip = firstFree(before.clusterIps, range, service, free);
      if (ip === null)
        return {
          t: 'refused',
          reason: `no address is left in ${formatCidr(range.cidr)}; give --service-cidr a larger network`,
        };
      given.push(ip);
    }
    return { t: 'given', given };
  }

  /** Families without an address that the Service must or may have. */
  #missingFamilies(service: Service): { family: Family; required: boolean }[] {
    if (!wantsClusterIp(service)) return [];
    const has = new Set(service.clusterIps.map(familyOf));
    const wanted: { family: Family; required: boolean }[] = [];
    const want = (family: Family, required: boolean) => {
      if (!has.has(family) && !wanted.some((other) => other.family === family)) wanted.push({ family, required });
    };
    const [first, second] = service.ipFamilies;
    if (has.size === 0) want(first ?? this.#ranges[0]?.family ?? 'IPv4', true);
    if (service.ipFamilyPolicy === 'SingleStack') return wanted;
    const required = service.ipFamilyPolicy === 'RequireDualStack';
    if (second) want(second, required);
    want('IPv4', required);
    want('IPv6', required);
    return wanted;
  }

  #port(kept: number, seed: string, free: (port: number) => boolean): number | null {
    const { first, last } = this.#nodePorts;
    if (kept !== 0 && free(kept)) return kept;
    const size = last - first + 1;
    // As with addresses, the lower part (KEP-3668) is given out last.
    const band = size > 16 ? Math.min(Math.max(16, Math.floor(size / 32)), 128) : 0;
    const start = hash(seed) % (size - band);
    for (let i = 0; i < size - band; i++) {
      const port = first + band + ((start + i) % (size - band));
      if (free(port)) return port;
    }
    for (let port = first; port < first + band; port++) if (free(port)) return port;
    return null;
  }

  #noNodePort(): string {
    const { first, last } = this.#nodePorts;
    return `no node port is left in ${first}-${last}; set allocateLoadBalancerNodePorts: false where load balancers do not need them`;
  }

  #keep(name: ServiceName, before: Allocation, after: Allocation): void {
    if (sameAllocation(before, after)) return;
    for (const claim of claimsOfAllocation(before)) this.#owners.delete(claim);
    this.#own(name, after);
    if (isNothing(after)) this.#given.delete(name);
    else this.#given.set(name, after);
    this.#revision++;
  }

  #own(name: ServiceName, allocation: Allocation): void {
    for (const claim of claimsOfAllocation(allocation)) this.#owners.set(claim, name);
  }
}

/** Would `complete` give the Service anything? */
export const needsAllocation = (service: Service): boolean =>
  (wantsClusterIp(service) && (service.clusterIps.length === 0 || service.ipFamilyPolicy !== 'SingleStack')) ||
  (wantsNodePorts(service) && service.ports.some((port) => port.nodePort === 0)) ||
  wantsHealthCheckNodePort(service);

const wantsClusterIp = (service: Service): boolean => service.type !== 'ExternalName' && !service.headless;

const wantsNodePorts = (service: Service): boolean =>
  !service.headless && (service.type === 'NodePort' || (service.type === 'LoadBalancer' && service.allocateNodePorts));

const wantsHealthCheckNodePort = (service: Service): boolean =>
  !service.headless &&
  service.type === 'LoadBalancer' &&
  service.externalTrafficPolicy === 'Local' &&
  service.healthCheckNodePort === 0;

const portId = (port: ServicePort): string => `${port.port}/${port.protocol}`;

const nothing: Allocation = { clusterIps: [], nodePorts: {}, healthCheckNodePort: 0 };

const isNothing = (allocation: Allocation): boolean => claimsOfAllocation(allocation).length === 0;

const sameAllocation = (a: Allocation, b: Allocation): boolean => JSON.stringify(a) === JSON.stringify(b);

/** Unlike those of a Service they are few: what is free is asked of all claims, what is owned is noted by these. */
function claimsOfAllocation(allocation: Allocation): readonly Claim[] {
  const claims = allocation.clusterIps.map(clusterIpClaim);
  for (const [id, port] of Object.entries(allocation.nodePorts))
    claims.push(nodePortClaim(port, id.slice(id.indexOf('/') + 1)));
  if (allocation.healthCheckNodePort !== 0) claims.push(nodePortClaim(allocation.healthCheckNodePort, 'TCP'));
  return claims;
}

function firstFree(
  kept: readonly Ip[],
  range: AddressRange,
  service: Service,
  free: (claim: Claim) => boolean,
): Ip | null {
  const usable = (ip: Ip): boolean =>
    free(clusterIpClaim(ip)) && service.ports.every(({ port, protocol }) => free(addressClaim(ip, port, protocol)));
  for (const ip of kept) if (familyOf(ip) === range.family && range.includes(ip) && usable(ip)) return ip;
  for (const ip of range.candidates(service.name)) if (usable(ip)) return ip;
  return null;
}
