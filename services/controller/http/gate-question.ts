import type { Ip } from '@octoplane/model/address.ts';
import { parseDurationMs } from '@octoplane/model/duration.ts';
import type { ServiceName } from '@octoplane/model/keys.ts';
import type { EndpointGoalOptions } from '../acks/endpoint-goal.ts';
import { formatEndpointTarget, parseEndpointTarget } from '../acks/endpoint-target.ts';

/** What a hook asks (gate.ts). */
export interface Question extends EndpointGoalOptions {
  readonly timeoutMs: number;
  readonly ignoreGoneMs: number | null;
}

/** An answer in words, for the log of a kubelet. */
export interface Answer {
  readonly code: number;
  readonly text: string;
}

/** Default of ?timeout: kubelets give a pod 30 s to end by default, and a hook that takes all of them leaves none for the program. */
const defaultTimeoutMs = 25_000;
const longestTimeoutMs = 3_600_000;

const states: Readonly<Record<string, EndpointGoalOptions['state']>> = { '/gone': 'gone', '/programmed': 'programmed' };

/** What is asked; an Answer where it cannot be understood; null: it is another path. */
export function questionOf({ pathname, searchParams: query }: URL, caller: Ip | null): Question | Answer | null {
  const state = states[pathname];
  if (state === undefined) return null;
  const known = new Set(['endpoint', 'port', 'service', 'timeout', 'ignore-gone']);
  for (const name of query.keys())
    if (!known.has(name)) return bad(`there is no parameter ${name}; there are ${[...known].join(', ')}`);
  const port = query.get('port');
  const own = caller === null ? '' : formatEndpointTarget({ ip: caller, port: port === null ? null : Number(port) });
  if (query.has('endpoint') && port !== null) return bad('give endpoint=IP:PORT or port=PORT, not both');
  const target = parseEndpointTarget(query.get('endpoint') ?? own);
  if (target === null)
    return bad('write endpoint=IP:PORT, or port=PORT for an endpoint at the address that you call from');
  const service = query.get('service');
  if (service !== null && !/^[^/\s]+\/[^/\s]+$/.test(service)) return bad(`${service} is not NAMESPACE/NAME`);
  const timeoutMs = durationOr(query.get('timeout'), defaultTimeoutMs);
  const ignoreGoneMs = durationOr(query.get('ignore-gone'), null);
  if (timeoutMs === undefined || ignoreGoneMs === undefined) return bad('write durations such as 500ms, 25s or 2m');
  return {
    target,
    state,
    service: service as ServiceName | null,
    timeoutMs: Math.min(timeoutMs, longestTimeoutMs),
    ignoreGoneMs,
  };
}

const durationOr = <T>(text: string | null, absent: T): number | T | undefined =>
  text === null ? absent : (parseDurationMs(text) ?? undefined);

const bad = (text: string): Answer => ({ code: 400, text });
