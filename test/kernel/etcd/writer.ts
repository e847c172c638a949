import { parseEndpoints } from '@octoplane/controller/sources/etcd/endpoints.ts';
import { EtcdClient, type EtcdTls } from '@octoplane/controller/sources/etcd/etcd-client.ts';
import { allocationsRoot, keyOf, prefixEnd } from '@octoplane/controller/sources/etcd/layout.ts';
import {
  CompactionRequest,
  type CompactionResponse,
  DeleteRangeRequest,
  type DeleteRangeResponse,
  type KVClient,
  LeaseGrantRequest,
  type LeaseGrantResponse,
  LeaseRevokeRequest,
  type LeaseRevokeResponse,
  PutRequest,
  RangeRequest,
} from '@octoplane/model/gen/etcd/etcdserverpb/rpc.ts';
import type { Kind } from '@octoplane/model/project.ts';

const signal = new AbortController().signal;

/** Writes to etcd as somebody else would, without our own checks. */
export class Writer {
  readonly client: EtcdClient;
  readonly #kv: KVClient;

  constructor(url: string, tls: EtcdTls | null = null) {
    const [endpoint] = parseEndpoints(url);
    if (!endpoint) throw new Error(`no endpoint in ${url}`);
    this.client = new EtcdClient(endpoint, tls);
    this.#kv = this.client.kvClient;
  }

  /** The revision of the write. */
  async put(key: string, value: string | object, lease = '0'): Promise<number> {
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    const request = PutRequest.create({ key: Buffer.from(key), value: Buffer.from(text), lease });
    return (await this.client.put(request, signal)).header?.revision ?? 0;
  }

  async delete(key: string): Promise<number> {
    const request = DeleteRangeRequest.create({ key: Buffer.from(key) });
    return (
      (
        await this.client.unary<DeleteRangeRequest, DeleteRangeResponse>(
          (...call) => this.#kv.deleteRange(...call),
          request,
          signal,
        )
      ).header?.revision ?? 0
    );
  }

  /** Null: it is not there. */
  async read(key: string): Promise<string | null> {
    const { kvs } = await this.client.range(RangeRequest.create({ key: Buffer.from(key) }), signal);
    return kvs[0]?.value.toString() ?? null;
  }

  async compact(revision: number): Promise<void> {
    const request = CompactionRequest.create({ revision });
    await this.client.unary<CompactionRequest, CompactionResponse>(
      (...call) => this.#kv.compact(...call),
      request,
      signal,
    );
  }

  async lease(seconds: number): Promise<string> {
    const request = LeaseGrantRequest.create({ TTL: seconds });
    const { leaseClient } = this.client;
    return (
      await this.client.unary<LeaseGrantRequest, LeaseGrantResponse>(
        (...call) => leaseClient.leaseGrant(...call),
        request,
        signal,
      )
    ).ID;
  }

  async revoke(id: string): Promise<void> {
    const request = LeaseRevokeRequest.create({ ID: id });
    const { leaseClient } = this.client;
    await this.client.unary<LeaseRevokeRequest, LeaseRevokeResponse>(
      (...call) => leaseClient.leaseRevoke(...call),
      request,
      signal,
    );
  }

  /** Keys that say who holds what. */
  async allocations(): Promise<readonly string[]> {
    const prefix = Buffer.from(allocationsRoot);
    const { kvs } = await this.client.range(
      RangeRequest.create({ key: prefix, rangeEnd: prefixEnd(prefix), keysOnly: true }),
      signal,
    );
    return kvs.map((kv) => kv.key.toString());
  }

  [Symbol.dispose](): void {
    this.client.close();
  }
}

export const key = (kind: Kind, name: string): string =>
  keyOf({ kind, name: kind === 'Node' ? name : `default/${name}` });

export const service = (name: string, port = 80) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'default' },
  spec: { ports: [{ port }] },
});

export const slice = (name: string, ...addresses: string[]) => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name: `${name}-1`, namespace: 'default', labels: { 'kubernetes.io/service-name': name } },
  addressType: 'IPv4',
  ports: [{ port: 8080 }],
  endpoints: addresses.map((address) => ({ addresses: [address] })),
});
