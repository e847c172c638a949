import { type ClusterSize, clusterNodes, clusterServices, clusterSlice, clusterSlices } from './cluster-data.ts';
import { KubeApiServer } from './kube-api-server.ts';
import { kubeSystem } from './manifests.ts';

/** A stand-in with a whole cluster in it, in a process of its own; started with child_process.fork. */
export type ServerRequest =
  | { readonly t: 'start'; readonly size: ClusterSize; readonly watchList: boolean }
  /** Writes so many EndpointSlices, one endpoint changed in each, as fast as they are taken. */
  | { readonly t: 'churn'; readonly changes: number; readonly round: number }
  | { readonly t: 'usage' };

export type ServerReport =
  | { readonly t: 'listening'; readonly url: string; readonly revision: number }
  | { readonly t: 'churned'; readonly revision: number }
  | {
      readonly t: 'usage';
      readonly bytesWritten: number;
      /** By their verbs. */
      readonly requests: Readonly<Record<string, number>>;
      readonly complaints: readonly string[];
    };

let server: KubeApiServer | null = null;
let size: ClusterSize | null = null;

process.on('message', (request: ServerRequest) => {
  act(request).catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    process.exit(1);
  });
});
process.on('disconnect', () => process.exit(0));

async function act(request: ServerRequest): Promise<void> {
  if (request.t === 'start') {
    size = request.size;
    server = await KubeApiServer.start({ watchList: request.watchList });
    server.put('namespaces', kubeSystem('synthetic'));
    for (const manifest of clusterServices(size)) server.put('services', manifest);
    for (const manifest of clusterSlices(size)) server.put('endpointslices', manifest);
    for (const manifest of clusterNodes(size)) server.put('nodes', manifest);
    server.store.compact();
    report({ t: 'listening', url: server.url, revision: server.store.revision });
    return;
  }
  if (server === null || size === null) throw new Error('the stand-in was not started');
  if (request.t === 'churn') await churn(server, size, request.changes, request.round);
  else {
    const requests: Record<string, number> = {};
    for (const { verb } of server.requests) requests[verb] = (requests[verb] ?? 0) + 1;
    report({ t: 'usage', bytesWritten: server.bytesWritten, requests, complaints: server.complaints });
  }
}

/** In turns, so that what is written leaves. */
async function churn(into: KubeApiServer, of: ClusterSize, changes: number, round: number): Promise<void> {
  for (let n = 0; n < changes; n++) {
    const service = n % of.services;
    into.put('endpointslices', clusterSlice(service, Math.floor(n / of.services) % of.slicesPerService, of, round));
    if (n % 50 === 49) await new Promise((resolve) => setImmediate(resolve));
  }
  report({ t: 'churned', revision: into.store.revision });
}

function report(message: ServerReport): void {
  process.send?.(message);
}
