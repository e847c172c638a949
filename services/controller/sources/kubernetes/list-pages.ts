import { isFields } from '@octoplane/model/findings.ts';
import { JsonSplitter } from './json-splitter.ts';
import type { KubeClient } from './kube-client.ts';
import { KubeError } from './kube-error.ts';
import { revisionOf } from './revision.ts';

export interface ListRequest {
  readonly path: string;
  /** Such as a labelSelector. */
  readonly query: Readonly<Record<string, string>>;
  /** Objects a page. Default 500, as kubectl and client-go ask for. */
  readonly pageSize?: number;
}

/**
 * All objects of a collection in its newest state, item by item as they arrive; no page is held as a whole. Where a continue token expires between
 * two pages, everything is asked for again in one answer, which cannot expire: `begin` is called again.
 * @throws KubeError
 */
export async function listAll(
  client: KubeClient,
  request: ListRequest,
  take: { readonly begin: () => void; readonly item: (json: Buffer) => void },
  signal: AbortSignal,
): Promise<number> {
  try {
    return await listOnce(client, request, request.pageSize ?? 500, take, signal);
  } catch (error) {
    if (!(error instanceof KubeError) || error.code !== 'GONE') throw error;
    return listOnce(client, request, null, take, signal);
  }
}

/** The revision of the newest state, for one object at most. @throws KubeError */
export async function newestRevision(
  client: KubeClient,
  { path, query }: ListRequest,
  signal: AbortSignal,
): Promise<number> {
  return readEnvelope(await client.json({ path, query: { ...query, limit: '1' } }, signal), path).revision;
}

/** `pageSize` null: one answer, however long it is. */
async function listOnce(
  client: KubeClient,
  { path, query }: ListRequest,
  pageSize: number | null,
  take: { readonly begin: () => void; readonly item: (json: Buffer) => void },
  signal: AbortSignal,
): Promise<number> {
  take.begin();
  const limit = pageSize === null ? {} : { limit: String(pageSize) };
  let from: { readonly continue?: string } = {};
  for (;;) {
    const page = await client.stream({ path, query: { ...query, ...limit, ...from } }, signal, async (body) => {
      const splitter = new JsonSplitter({ of: 'items', onValue: take.item });
      for await (const chunk of body as AsyncIterable<Buffer>) splitter.push(chunk);
      return readEnvelope(splitter.envelope(), path);
    });
    if (page.next === '') return page.revision;
    from = { continue: page.next };
  }
}

function readEnvelope(envelope: unknown, path: string): { readonly revision: number; readonly next: string } {
  const metadata = isFields(envelope) ? envelope['metadata'] : null;
  const revision = revisionOf(envelope);
  if (!isFields(metadata) || revision === null)
    throw new KubeError('PROTOCOL', `the list of ${path} has no resourceVersion; is it an API server that answers?`);
  const next = metadata['continue'];
  return { revision, next: typeof next === 'string' ? next : '' };
}
