import { Metadata, type ServiceError } from '@grpc/grpc-js';
import {
  type Event,
  WatchCreateRequest,
  type WatchRequest,
  type WatchResponse,
} from '@octoplane/model/gen/etcd/etcdserverpb/rpc.ts';
import type { Cancel, Clock } from '../../clock.ts';
import type { EtcdClient } from './etcd-client.ts';
import { EtcdError, fromServiceError } from './etcd-error.ts';

export interface WatchOptions {
  readonly key: Uint8Array;
  readonly rangeEnd: Uint8Array;
  /** The first revision that is wanted. */
  readonly from: number;
  readonly clock: Clock;
  /** How often the server is asked whether it is still there. */
  readonly progressMs: number;
  /** Without a word for so long, the watch is taken for dead. */
  readonly stallMs: number;
  /** The server has taken the watch on. */
  readonly onCreated: () => void;
  /** Whole revisions; of several changes of one key only the last. */
  readonly onEvents: (events: readonly Event[]) => void;
  /** Everything up to the revision has been given to onEvents. */
  readonly onProgress: (revision: number) => void;
}

/** A member that loses its leader ends the watch, and does not serve the past in silence. */
const requireLeader = { hasleader: 'true' };

/**
 * One watch, from its creation to its end, which is always an error: of the connection, the server, a stall, or the signal.
 *
 * Answers to progress requests count as signs of life alone. Servers before 3.4.25 and 3.5.8 send them while the watch is still
 * catching up (etcd-io/etcd#15220), so what they say of the revision is not believed; unasked progress notifications are right.
 *
 * @throws EtcdError
 */
export function watchRange(client: EtcdClient, options: WatchOptions, signal: AbortSignal): Promise<never> {
  const { clock } = options;
  return new Promise((_, reject) => {
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(requireLeader)) metadata.set(name, value);
    const stream = client.watchClient.watch(metadata);
    const pieces = new Map<string, Event>();
    let ended = false;
    let stall: Cancel = () => undefined;
    let ask: Cancel = () => undefined;

    const end = (error: unknown): void => {
      if (ended) return;
      ended = true;
      stall();
      ask();
      signal.removeEventListener('abort', abort);
      stream.cancel();
      reject(error);
    };
    const abort = (): void => end(new EtcdError('ABORTED', 'the watch was given up'));
    const { address } = client.endpoint;
    const expectWord = (): void => {
      stall();
      stall = clock.after(options.stallMs, () =>
        end(new EtcdError('UNAVAILABLE', `etcd at ${address} said nothing for ${options.stallMs / 1000} s`)),
      );
    };
    const askLater = (): void => {
      ask = clock.after(options.progressMs, () => {
        stream.write({ requestUnion: { $case: 'progressRequest', value: {} } } satisfies WatchRequest);
        askLater();
      });
    };
    const take = (response: WatchResponse): void => {
      if (ended) return;
      expectWord();
      if (response.compactRevision !== 0)
        throw new EtcdError('COMPACTED', `revisions before ${response.compactRevision} are compacted away`);
      if (response.canceled)
        throw new EtcdError(
          'UNAVAILABLE',
          `etcd at ${address} ended the watch: ${response.cancelReason || 'no reason'}`,
        );
      if (response.created) {
        options.onCreated();
        askLater();
        return;
      }
      if (response.watchId < 0) return;
      for (const event of response.events) note(pieces, event);
      if (response.fragment) return;
      if (pieces.size > 0) {
        const events = [...pieces.values()];
        pieces.clear();
        options.onEvents(events);
      } else if (response.header) options.onProgress(response.header.revision);
    };

    signal.addEventListener('abort', abort, { once: true });
    stream.on('data', (response: WatchResponse) => {
      try {
        take(response);
      } catch (error) {
        end(error);
      }
    });
    stream.on('error', (error: ServiceError) => end(fromServiceError(error, address)));
    stream.on('end', () => end(new EtcdError('UNAVAILABLE', `etcd at ${address} closed the watch`)));
    expectWord();
    const { key, rangeEnd, from } = options;
    const create = WatchCreateRequest.create({
      key: Buffer.from(key),
      rangeEnd: Buffer.from(rangeEnd),
      startRevision: from,
      progressNotify: true,
      fragment: true,
    });
    stream.write({ requestUnion: { $case: 'createRequest', value: create } } satisfies WatchRequest);
    if (signal.aborted) abort();
  });
}

/** The last change of a key counts, at the place where it came. */
function note(pieces: Map<string, Event>, event: Event): void {
  if (!event.kv) throw new EtcdError('PROTOCOL', 'a watch event came without its key; is it an etcd that answers?');
  const key = event.kv.key.toString('latin1');
  pieces.delete(key);
  pieces.set(key, event);
}
