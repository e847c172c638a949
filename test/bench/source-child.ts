import { EtcdSource } from '@octoplane/controller/sources/etcd/etcd-source.ts';
import { KubernetesSource } from '@octoplane/controller/sources/kubernetes/kubernetes-source.ts';
import type { Source, SourceEvent } from '@octoplane/controller/sources/source.ts';
import type { ClusterObject } from '@octoplane/model/objects.ts';
import { formatId, idOf } from '@octoplane/model/project.ts';
import { pino } from 'pino';

/** A source in a process of its own, which keeps what it is told, as the controller does; started with child_process.fork. */
export type SourceRequest =
  | { readonly t: 'start'; readonly kind: 'etcd'; readonly urls: string }
  | { readonly t: 'start'; readonly kind: 'kubernetes'; readonly kubeconfig: string }
  /** To be answered when the revision has been reached. */
  | { readonly t: 'reach'; readonly revision: number };

export type SourceReport =
  | (Usage & { readonly t: 'synced'; readonly afterMs: number; readonly objects: number })
  | (Usage & { readonly t: 'reached'; readonly changes: number });

interface Usage {
  readonly cpuMs: number;
  readonly peakMb: number;
  readonly rssMb: number;
}

const objects = new Map<string, ClusterObject>();
let changes = 0;
let revision = 0;
let wanted = Infinity;
let startedMs = 0;

process.on('message', (request: SourceRequest) => {
  if (request.t === 'reach') {
    wanted = request.revision;
    look();
    return;
  }
  startedMs = performance.now();
  open(request)
    .run(take, new AbortController().signal)
    .catch((error: unknown) => {
      process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
      process.exit(1);
    });
});
process.on('disconnect', () => process.exit(0));

function open(request: SourceRequest & { t: 'start' }): Source {
  const logger = pino({ level: 'warn' }, pino.destination(2));
  if (request.kind === 'etcd') return new EtcdSource({ name: 'bench', urls: request.urls, logger });
  return new KubernetesSource({ name: 'bench', context: '', kubeconfig: request.kubeconfig, logger });
}

function take(events: readonly SourceEvent[]): void {
  for (const event of events) {
    if (event.t === 'upserted') {
      objects.set(formatId(idOf(event.object)), event.object);
      changes++;
    } else if (event.t === 'removed') objects.delete(formatId(event.id));
    else if (event.t === 'synced') {
      if (revision === 0)
        report({ t: 'synced', afterMs: performance.now() - startedMs, objects: objects.size, ...usage() });
      revision = event.revision;
    }
  }
  look();
}

function look(): void {
  if (revision < wanted) return;
  wanted = Infinity;
  report({ t: 'reached', changes, ...usage() });
}

function usage(): Usage {
  const { user, system } = process.cpuUsage();
  // Kilobytes, as getrusage has it.
  const peakMb = (process.resourceUsage().maxRSS * 1024) / 1e6;
  return { cpuMs: (user + system) / 1000, peakMb, rssMb: process.memoryUsage().rss / 1e6 };
}

function report(message: SourceReport): void {
  process.send?.(message);
}
