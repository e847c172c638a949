import { pino } from 'pino';
import { runController } from '../../../services/controller/main.ts';
import type { ControllerOptions } from '../../../services/controller/options.ts';

/** A controller in a process of its own, whose CPU and memory can be asked for; started with child_process.fork. */
export type ControllerRequest =
  | { readonly t: 'start'; readonly options: ControllerOptions; readonly logLevel: string }
  | { readonly t: 'usage' };

export type ControllerReport =
  | { readonly t: 'listening'; readonly grpc: number; readonly http: number }
  | { readonly t: 'usage'; readonly cpuMs: number; readonly rssBytes: number; readonly heapBytes: number };

const stopping = new AbortController();

process.on('message', (request: ControllerRequest) => {
  if (request.t === 'start') start(request.options, request.logLevel);
  else usage();
});
process.on('disconnect', () => stopping.abort());

function start(options: ControllerOptions, level: string): void {
  runController(options, {
    logger: pino({ level }, pino.destination(2)),
    signal: stopping.signal,
    onListening: (ports) => report({ t: 'listening', ...ports }),
  }).then(
    () => process.exit(0),
    (error: unknown) => {
      process.stderr.write(`${String(error)}\n`);
      process.exit(1);
    },
  );
}

function usage(): void {
  globalThis.gc?.();
  const { user, system } = process.cpuUsage();
  const { rss, heapUsed } = process.memoryUsage();
  report({ t: 'usage', cpuMs: (user + system) / 1000, rssBytes: rss, heapBytes: heapUsed });
}

function report(message: ControllerReport): void {
  process.send?.(message);
}
