import { apply } from './apply.ts';
import type { Benchmark } from './benchmark.ts';
import { churn } from './churn.ts';
import { compute } from './compute.ts';
import { daemon } from './daemon.ts';
import { datapath } from './datapath.ts';
import { firstpacket } from './firstpacket.ts';
import { fleet } from './fleet.ts';
import { memory } from './memory.ts';
import { source } from './source.ts';
import { tracing } from './tracing.ts';

/** In the order in which `npm run bench` lists them. */
export const benchmarks: readonly Benchmark[] = [
  datapath,
  firstpacket,
  apply,
  fleet,
  tracing,
  churn,
  memory,
  daemon,
  compute,
  source,
];
