import type { Ip } from '@octoplane/model/address.ts';
import type { ServiceName } from '@octoplane/model/keys.ts';
import type { ServiceImport } from '@octoplane/model/objects.ts';
import type { Allocations, Allocator } from '../allocate/allocator.ts';
import { type Claim, clusterIpClaim, ipOfClaim } from '../state/claims.ts';
import type { DerivedImport } from './derive-import.ts';
import { importedName, importedService } from './imported-objects.ts';

/** A ServiceImport that carries addresses, where it was found. `order`: of the cluster. */
export interface AddressRecord {
  readonly import: ServiceImport;
  readonly order: number;
}

export type Placed =
  | { readonly t: 'given'; readonly ips: readonly Ip[] }
  /** `wanted`: what the one who writes should record. */
  | { readonly t: 'waiting'; readonly reason: string; readonly wanted: readonly Ip[] }
  | { readonly t: 'refused'; readonly reason: string };

export interface ClustersetAddressesOptions {
  /** Over --clusterset-cidr. */
  readonly allocator: Allocator;
  /** Does --clusterset-cidr have this address? What lies outside is another implementation's. */
  readonly includes: (ip: Ip) => boolean;
  /** Some cluster can be written to: then an address is served once it is recorded there, and by every replica the same. */
  readonly recorded: boolean;
  /** Is what a claim is about claimed by no Service of any cluster? */
  readonly isFree: (claim: Claim, except: ServiceName) => boolean;
  /** Called whenever something was given out or taken back: to keep it on disk. */
  readonly onAllocated: (allocations: Allocations) => void;
}

/**
 * The addresses of imports.
 *
 *   1. What is recorded counts, the oldest record first: an address stays for the life of the import, over restarts and replicas.
 *      One whose records were all deleted keeps the address while this controller runs, and it is recorded again.
 *   2. An address that two imports have on record belongs to the older record; the other import gets a new one.
 *   3. Where nothing can be recorded, addresses follow from names and from the book (allocator.ts).
 */
export class ClustersetAddresses {
  readonly #options: ClustersetAddressesOptions;
  readonly #records = new Map<ServiceName, AddressRecord>();
  readonly #claimants = new Map<Ip, Set<ServiceName>>();
  /** What was given last, by import. */
  readonly #given = new Map<ServiceName, readonly Ip[]>();

  constructor(options: ClustersetAddressesOptions) {
    this.#options = options;
  }

  /** Takes note of what is on record for an import. The answer: other imports that this concerns. */
  note(name: ServiceName, found: readonly AddressRecord[]): ReadonlySet<ServiceName> {
    const before = this.#records.get(name);
    const [after] = found.filter((record) => this.#isOurs(record)).sort(compareRecords);
    if (after) this.#records.set(name, after);
    else this.#records.delete(name);
    const concerned = new Set<ServiceName>();
    for (const ip of before?.import.ips ?? []) this.#claimants.get(ip)?.delete(name);
    for (const ip of after?.import.ips ?? []) this.#claimants.set(ip, (this.#claimants.get(ip) ?? new Set()).add(name));
    for (const ip of [...(before?.import.ips ?? []), ...(after?.import.ips ?? [])])
      for (const other of this.#claimants.get(ip) ?? []) if (other !== name) concerned.add(other);
    return concerned;
  }

  place(derived: DerivedImport): Placed {
    return this.#saving(() => this.#place(derived));
  }

  /** The import is gone. */
  release(name: ServiceName): void {
    this.#given.delete(name);
    this.#saving(() => this.#options.allocator.release(importedName(name)));
  }

  #saving<T>(act: () => T): T {
    const { allocator, onAllocated } = this.#options;
    const { revision } = allocator;
    const result = act();
    if (allocator.revision !== revision) onAllocated(allocator.allocations);
    return result;
  }

  #place(derived: DerivedImport): Placed {
    const { allocator, recorded } = this.#options;
    const record = this.#records.get(derived.name);
    const holder = record && this.#holderOf(record);
    const kept = record && holder === derived.name ? record.import.ips : this.#stillFree(derived.name);
    const service = importedService(derived, kept, '');
    const completed = allocator.complete(service, (claim) => this.#isFree(claim, derived.name, service.name));
    if (completed.t === 'refused') return { t: 'refused', reason: inOurWords(completed.reason) };
    const { clusterIps } = completed.service;
    const ips = recorded && kept.length > 0 ? kept : clusterIps;
    if (!recorded || kept.length > 0) {
      this.#given.set(derived.name, ips);
      return { t: 'given', ips };
    }
    const why =
      holder === undefined ? 'has no clusterset IP on record yet' : `has the clusterset IP of ${holder} on record`;
    return { t: 'waiting', reason: `${why}; the controller that leads writes one`, wanted: clusterIps };
  }

  #isOurs({ import: { ips } }: AddressRecord): boolean {
    return ips.length > 0 && ips.every((ip) => this.#options.includes(ip));
  }

  /** Of the addresses on a record; the name of its own import when nobody has an older one. */
  #holderOf(record: AddressRecord): ServiceName {
    let oldest = record;
    for (const ip of record.import.ips) {
      for (const name of this.#claimants.get(ip) ?? []) {
        const other = this.#records.get(name);
        if (other && compareRecords(other, oldest) < 0) oldest = other;
      }
    }
    return oldest.import.name;
  }

  /** What an import had until its record was lost: it keeps it, and the one who writes records it again. */
  #stillFree(name: ServiceName): readonly Ip[] {
    const ips = this.#given.get(name) ?? [];
    const isFree = ips.every((ip) => this.#isFree(clusterIpClaim(ip), name, importedName(name)));
    return this.#options.recorded && isFree ? ips : [];
  }

  #isFree(claim: Claim, name: ServiceName, imported: ServiceName): boolean {
    if (!this.#options.isFree(claim, imported)) return false;
    const ip = ipOfClaim(claim);
    for (const other of (ip !== null && this.#claimants.get(ip)) || []) if (other !== name) return false;
    return true;
  }
}

function compareRecords(a: AddressRecord, b: AddressRecord): number {
  const [ours, theirs] = [a, b].map((record) => record.import.meta.createdAtMs ?? Number.MAX_SAFE_INTEGER);
  if (ours !== theirs) return (ours ?? 0) - (theirs ?? 0);
  if (a.import.name !== b.import.name) return a.import.name < b.import.name ? -1 : 1;
  return a.order - b.order;
}

const inOurWords = (reason: string): string => reason.replaceAll('--service-cidr', '--clusterset-cidr');
