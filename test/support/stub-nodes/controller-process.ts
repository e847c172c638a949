import { pino } from 'pino';
import { systemClock } from '../../../services/controller/clock.ts';
import { runController } from '../../../services/controller/main.ts';
import type { ControllerOptions } from '../../../services/controller/options.ts';

import { monotonicUs } from './monotonic.ts';

/** A controller in a process of its own, whose CPU and memory can be asked for; started with child_process.fork. */
export type ControllerRequest =
  | { readonly t: 'start'; readonly options: ControllerOptions; readonly logLevel: string }
  | { readonly t: 'usage' | 'clocks' };

export type ControllerReport =
  | { readonly t: 'listening'; readonly grpc: number; readonly http: number }
  | { readonly t: 'usage'; readonly cpuMs: number; readonly rssBytes: number; readonly heapBytes: number }
  /** Two readings at one time: of the controller's clock, and of the clock that all processes share. */
  | { readonly t: 'clocks'; readonly nowUs: number; readonly monotonicUs: number };

const stopping = new AbortController();

process.on('message', (request: ControllerRequest) => {
  if (request.t === 'start') start(request.options, request.logLevel);
  else if (request.t === 'usage') usage();
  else report({ t: 'clocks', ...clocks() });
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

/** The closest of some readings: between two of them the process may lose its turn. */
function clocks() {
  const readings = Array.from({ length: 100 }, () => {
    const before = monotonicUs();
    const nowUs = systemClock.nowUs();
    return { before, nowUs, after: monotonicUs() };
  });
  const [best] = readings.sort((a, b) => a.after - a.before - (b.after - b.before));
  if (!best) throw new RangeError('there is a reading');
  return { nowUs: best.nowUs, monotonicUs: (best.before + best.after) / 2 };
}

function report(message: ControllerReport): void {
  process.send?.(message);
}
