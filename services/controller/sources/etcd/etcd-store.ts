import type { Cidr } from '@octoplane/model/address.ts';
import type { Fields } from '@octoplane/model/findings.ts';
import { type KeyValue, RangeRequest, type RequestOp } from '@octoplane/model/gen/etcd/etcdserverpb/rpc.ts';
import type { Service } from '@octoplane/model/objects.ts';
import { formatId, idOf, type Kind, type ObjectId, project } from '@octoplane/model/project.ts';
import { Allocator } from '../../allocate/allocator.ts';
import { allocationOf, heldBy, keyOfClaim } from './allocations.ts';
import { completeMetadata, completeService } from './complete-manifest.ts';
import type { EtcdClient } from './etcd-client.ts';
import { EtcdError } from './etcd-error.ts';
import { allocationsRoot, collectionRoot, keyOf, prefixEnd } from './layout.ts';
import { listRange } from './list-range.ts';
import { maxValueBytes, readValue } from './read-value.ts';
import { type Condition, changedAt, createdAt, put, remove } from './transactions.ts';

export type Applied = 'created' | 'configured' | 'unchanged';

/** Others may take what was about to be taken; whoever loses reads again. So many losses in a row are no accident. */
const maxAttempts = 100;

const noLease = '0';

/** An object as it is in etcd. */
export interface Stored {
  readonly key: string;
  readonly manifest: Fields | null;
}

/** Writes and reads objects of layout.ts as a person or a program does, one transaction each. */
export class EtcdStore {
  readonly #client: EtcdClient;
  readonly #serviceCidrs: readonly Cidr[];
  readonly #nowMs: () => number;
  readonly #guard: Condition | null;

  /** `guard` holds for every write, or it is refused. */
  constructor(client: EtcdClient, serviceCidrs: readonly Cidr[], nowMs: () => number, guard: Condition | null = null) {
    this.#client = client;
    this.#guard = guard;
    this.#serviceCidrs = serviceCidrs;
    this.#nowMs = nowMs;
  }

  /**
   * Writes an object; a Service with the cluster IP and node ports that it does not name. `lease`: it goes when the lease does.
   * @throws EtcdError REFUSED when it asks for what another Service holds, or for what there is none left of.
   */
  async apply(manifest: Fields, signal: AbortSignal, lease = noLease): Promise<Applied> {
    for (let attempt = 0; attempt < maxAttempts; attempt++) {
      const applied = await this.#tryApply(manifest, signal, lease);
      if (applied !== null) return applied;
    }
    throw new EtcdError('UNAVAILABLE', `others changed the same things ${maxAttempts} times meanwhile; try again`);
  }

  /** False: it was not there. What a Service held is free again. */
  async delete(id: ObjectId, signal: AbortSignal): Promise<boolean> {
    for (let attempt = 0; attempt < maxAttempts; attempt++) {
      const before = await this.#read(keyOf(id), signal);
      if (before === null) return false;
      const owners = await this.#owners(signal);
      const mine = [...heldBy(serviceOf(before)).keys()].filter((key) => owners.get(key) === id.name);
      const operations = [keyOf(id), ...mine].map(remove);
      if (await this.#commit([unchanged(keyOf(id), before)], operations, signal)) return true;
    }
    throw new EtcdError('UNAVAILABLE', `${formatId(id)} changed ${maxAttempts} times meanwhile; try again`);
  }

  /** False: it is not there. An object is read, changed and written, unless somebody else changed it meanwhile; then once more. */
  async change(id: ObjectId, edit: (manifest: Fields) => Fields, signal: AbortSignal): Promise<boolean> {
    for (let attempt = 0; attempt < maxAttempts; attempt++) {
      const before = await this.#read(keyOf(id), signal);
      const manifest = before && storedOf(before).manifest;
      if (before === null || manifest === null) return false;
      const operation = put(keyOf(id), JSON.stringify(edit(manifest)), before.lease);
      if (await this.#commit([unchanged(keyOf(id), before)], [operation], signal)) return true;
    }
    throw new EtcdError('UNAVAILABLE', `${formatId(id)} changed ${maxAttempts} times meanwhile; try again`);
  }

  /** All of a kind, in the order of their names. */
  async list(kind: Kind, signal: AbortSignal): Promise<readonly Stored[]> {
    const key = Buffer.from(collectionRoot(kind));
    const all: Stored[] = [];
    await listRange(this.#client, { key, rangeEnd: prefixEnd(key) }, (kv) => all.push(storedOf(kv)), signal);
    return all;
  }

  async get(id: ObjectId, signal: AbortSignal): Promise<Stored | null> {
    const kv = await this.#read(keyOf(id), signal);
    return kv === null ? null : storedOf(kv);
  }

  /** Null: somebody was faster. */
  async #tryApply(manifest: Fields, signal: AbortSignal, lease: string): Promise<Applied | null> {
    const projection = project(manifest, { revision: '', changedAtUs: null });
    if (projection.t !== 'object') throw new EtcdError('REFUSED', 'the object is not valid');
    const id = idOf(projection.object);
    const key = keyOf(id);
    const before = await this.#read(key, signal);
    let complete = completeMetadata(manifest, id.name, before && storedOf(before).manifest, this.#nowMs());
    const compare = [unchanged(key, before)];
    const operations: RequestOp[] = [];
    if (projection.object.kind === 'Service') {
      const owners = await this.#owners(signal);
      const service = this.#allocate(projection.object.service, serviceOf(before), owners);
      complete = completeService(complete, service);
      const held = heldBy(service);
      for (const [claimKey, claim] of held) {
        const owner = owners.get(claimKey);
        if (owner === service.name) continue;
        if (owner !== undefined)
          throw new EtcdError('REFUSED', `${claim} belongs to Service ${owner}; name another, or none to be given one`);
        compare.push(unchanged(claimKey, null));
        operations.push(put(claimKey, service.name));
      }
      for (const claimKey of heldBy(serviceOf(before)).keys())
        if (!held.has(claimKey) && owners.get(claimKey) === service.name) operations.push(remove(claimKey));
    }
    const value = JSON.stringify(complete);
    if (Buffer.byteLength(value) >= maxValueBytes)
      throw new EtcdError('REFUSED', `${formatId(id)} has ${value.length} bytes; write it as several objects`);
    if (operations.length === 0 && before?.value.toString('utf8') === value && before.lease === lease)
      return 'unchanged';
    operations.push(put(key, value, lease));
    if (!(await this.#commit(compare, operations, signal))) return null;
    return before === null ? 'created' : 'configured';
  }

  #allocate(service: Service, before: Service | null, owners: ReadonlyMap<string, string>): Service {
    const allocator = new Allocator({ serviceCidrs: this.#serviceCidrs, allocations: allocationOf(before) });
    const completed = allocator.complete(service, (claim) => {
      const owner = owners.get(keyOfClaim(claim) ?? '');
      return owner === undefined || owner === service.name;
    });
    if (completed.t === 'complete') return completed.service;
    throw new EtcdError('REFUSED', `Service ${service.name} ${completed.reason}`);
  }

  /** Names of Services by what they hold. */
  async #owners(signal: AbortSignal): Promise<ReadonlyMap<string, string>> {
    const key = Buffer.from(allocationsRoot);
    const owners = new Map<string, string>();
    const range = { key, rangeEnd: prefixEnd(key) };
    await listRange(this.#client, range, (kv) => owners.set(kv.key.toString(), kv.value.toString()), signal);
    return owners;
  }

  async #read(key: string, signal: AbortSignal): Promise<KeyValue | null> {
    const { kvs } = await this.#client.range(RangeRequest.create({ key: Buffer.from(key) }), signal);
    return kvs[0] ?? null;
  }

  /** False: something was not as it was read. @throws EtcdError REFUSED when the guard does not hold. */
  async #commit(compare: readonly Condition[], success: readonly RequestOp[], signal: AbortSignal): Promise<boolean> {
    const guard = this.#guard === null ? [] : [this.#guard];
    const { succeeded } = await this.#client.txn({ compare: [...guard, ...compare], success, failure: [] }, signal);
    if (succeeded || guard.length === 0) return succeeded;
    if ((await this.#client.txn({ compare: guard, success: [], failure: [] }, signal)).succeeded) return false;
    throw new EtcdError('REFUSED', 'another controller leads by now, and this one may not write any more');
  }
}

/** Is the key still as it was read? Null: it was not there. */
const unchanged = (key: string, before: KeyValue | null): Condition =>
  before === null ? createdAt(key, 0) : changedAt(key, before.modRevision);

/** Null also for what is not a valid Service: it holds nothing that it could keep. */
function serviceOf(kv: KeyValue | null): Service | null {
  if (kv === null) return null;
  const read = readValue(kv.key.toString(), kv.value, kv.modRevision);
  return read.t === 'object' && read.object.kind === 'Service' ? read.object.service : null;
}

function storedOf(kv: KeyValue): Stored {
  const key = kv.key.toString();
  try {
    const value: unknown = JSON.parse(kv.value.toString());
    return { key, manifest: typeof value === 'object' && value !== null ? { ...value } : null };
  } catch (error) {
    if (error instanceof SyntaxError) return { key, manifest: null };
    throw error;
  }
}
