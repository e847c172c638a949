import { mkdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { syntheticService, syntheticSlices } from '../synthetic.ts';

/** Small, because thousands of stubs live in one process: what is looked at is the protocol, and a change costs what it changes. */
const cluster = { services: 20, endpoints: 10, nodes: 3, zones: 3 };
export const fleetZones = ['zone-0', 'zone-1', 'zone-2'];

/** A directory of manifests for a controller with a fleet of stubs. */
export function writeCluster(manifests: string): void {
  mkdirSync(manifests);
  const items = Array.from({ length: cluster.services }, (_, i) => [
    syntheticService(i, cluster),
    ...(i === 0 ? [] : syntheticSlices(i, cluster)),
  ]).flat();
  put(manifests, 'cluster.json', items);
  changeOneEndpoint(manifests, -1);
}

/** Adds an endpoint to the first Service, or takes it away again. Returns the revision of the change. */
export function changeOneEndpoint(manifests: string, i: number): number {
  return put(manifests, 'svc-0.json', syntheticSlices(0, cluster, cluster.endpoints + (i & 1 ? 0 : 1)));
}

function put(manifests: string, name: string, items: readonly object[]): number {
  const file = join(manifests, name);
  writeFileSync(`${file}.new`, JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
  renameSync(`${file}.new`, file);
  return Number(statSync(file, { bigint: true }).mtimeNs / 1000n);
}
