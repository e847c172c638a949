import { type Clock, pause } from '../../clock.ts';
import type { KubeClient } from './kube-client.ts';
import { KubeError } from './kube-error.ts';

export interface HeartbeatOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  /** How often the server is asked. Default 10 s. */
  readonly everyMs?: number;
  /** Without an answer for so long (twice, at most) it is not heard. Default 5 s. */
  readonly silentMs?: number;
  /** What it is like now: an error, or null. Called with every answer. */
  readonly onBeat: (error: KubeError | null) => void;
}

/**
 * Asks an API server whether it is still there, because a quiet watch does not tell: a process that hangs keeps its connections open, and
 * bookmarks come once a minute. It is asked for its version, which anybody may see. Whatever it answers, it answers.
 */
export async function heartbeat(options: HeartbeatOptions, signal: AbortSignal): Promise<void> {
  const { client, clock, everyMs = 10_000, silentMs = 5_000, onBeat } = options;
  while (!signal.aborted) {
    await pause(clock, everyMs, signal);
    if (signal.aborted) return;
    try {
      await client.json({ path: '/version', silentMs }, signal);
      onBeat(null);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof KubeError)) throw error;
      onBeat(error.code === 'UNREACHABLE' || error.code === 'SILENT' ? error : null);
    }
  }
}
