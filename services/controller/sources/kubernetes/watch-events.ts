import { type Fields, isFields } from '@octoplane/model/findings.ts';
import { JsonSplitter } from './json-splitter.ts';
import type { KubeClient } from './kube-client.ts';
import { fromStatus, KubeError } from './kube-error.ts';
import { revisionOf } from './revision.ts';

export type WatchEvent =
  | { readonly t: 'put'; readonly object: Fields; readonly revision: number | null }
  | { readonly t: 'removed'; readonly object: Fields; readonly revision: number | null }
  /** Everything up to the revision has been sent. `initial`: and all that was there at the beginning. */
  | { readonly t: 'bookmark'; readonly revision: number; readonly initial: boolean };

export interface WatchOptions {
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  /** Null: first everything that is there (WatchList, KEP-3157). */
  readonly from: number | null;
  /** The server ends the watch after so long. */
  readonly timeoutSeconds: number;
  /** Without a word for so long, the watch is given up. Servers send a bookmark a minute. */
  readonly silentMs: number;
  /** The server has taken the watch on. */
  readonly onOpen: () => void;
  /** What one piece of the stream brought, in its order. */
  readonly onEvents: (events: readonly WatchEvent[]) => void;
}

/**
 * One watch, from its request to its end. Resolves when the server ends it; an event that is cut off was none.
 * @throws KubeError GONE where it cannot go on from `from`; UNREACHABLE and others when it breaks.
 */
export function watchOnce(client: KubeClient, options: WatchOptions, signal: AbortSignal): Promise<void> {
  const { path, from, timeoutSeconds, silentMs } = options;
  const query = {
    ...options.query,
    watch: 'true',
    allowWatchBookmarks: 'true',
    timeoutSeconds: String(timeoutSeconds),
    ...(from === null
      ? { sendInitialEvents: 'true', resourceVersionMatch: 'NotOlderThan' }
      : { resourceVersion: String(from) }),
  };
  return client.stream({ path, query, silentMs }, signal, async (body) => {
    options.onOpen();
    let events: WatchEvent[] = [];
    const splitter = new JsonSplitter({ of: 'values', onValue: (json) => events.push(readEvent(json, path)) });
    for await (const chunk of body as AsyncIterable<Buffer>) {
      try {
        splitter.push(chunk);
      } finally {
        // Behind an error, too, what came before it counts.
        if (events.length > 0) {
          const taken = events;
          events = [];
          options.onEvents(taken);
        }
      }
    }
  });
}

/** @throws KubeError of an ERROR event; SyntaxError */
function readEvent(json: Buffer, path: string): WatchEvent {
  const event: unknown = JSON.parse(json.toString('utf8'));
  const object = isFields(event) ? event['object'] : null;
  if (!isFields(event) || !isFields(object)) throw notAnEvent(path);
  switch (event['type']) {
    case 'ADDED':
    case 'MODIFIED':
      return { t: 'put', object, revision: revisionOf(object) };
    case 'DELETED':
      return { t: 'removed', object, revision: revisionOf(object) };
    case 'BOOKMARK':
      return bookmarkOf(object, path);
    case 'ERROR': {
      const code = typeof object['code'] === 'number' ? object['code'] : 500;
      throw fromStatus(code, object, null, { method: 'WATCH', path, server: 'the API server' });
    }
    default:
      throw notAnEvent(path);
  }
}

function bookmarkOf(object: Fields, path: string): WatchEvent {
  const revision = revisionOf(object);
  if (revision === null) throw notAnEvent(path);
  const metadata = isFields(object['metadata']) ? object['metadata'] : {};
  const annotations = isFields(metadata['annotations']) ? metadata['annotations'] : {};
  return { t: 'bookmark', revision, initial: annotations['k8s.io/initial-events-end'] === 'true' };
}

const notAnEvent = (path: string): KubeError =>
  new KubeError('PROTOCOL', `the watch of ${path} sent something that is no event; is it an API server that answers?`);
