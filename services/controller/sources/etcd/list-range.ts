import { type KeyValue, RangeRequest, type ResponseHeader } from '@octoplane/model/gen/etcd/etcdserverpb/rpc.ts';
import { type EtcdClient, headerOf } from './etcd-client.ts';
import { keyAfter } from './layout.ts';

/** Round trips against memory: some 2 MB of usual EndpointSlices. */
const pageSize = 200;

/** What a list is of. */
export type ListedAt = Pick<ResponseHeader, 'clusterId' | 'revision'>;

/**
 * All keys of a range at one revision, page by page; what is taken of a page is up to the caller, so that no giant answer is held.
 * @throws EtcdError COMPACTED when the revision was compacted away between two pages: start again.
 */
export async function listRange(
  client: EtcdClient,
  range: { readonly key: Uint8Array; readonly rangeEnd: Uint8Array },
  take: (kv: KeyValue, at: ListedAt) => void,
  signal: AbortSignal,
): Promise<ListedAt> {
  let key: Buffer = Buffer.from(range.key);
  let at: ListedAt | null = null;
  for (;;) {
    const request: RangeRequest = RangeRequest.create({
      key,
      rangeEnd: Buffer.from(range.rangeEnd),
      limit: pageSize,
      revision: at?.revision ?? 0,
    });
    const page = await client.range(request, signal);
    at ??= headerOf(page);
    for (const kv of page.kvs) take(kv, at);
    const last = page.kvs.at(-1);
    if (!page.more || !last) return at;
    key = keyAfter(last.key);
  }
}
