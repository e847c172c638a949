import { KubeApiServer } from './kube-api-server.ts';
import type { Manifest } from './store.ts';

/** A stand-in in a process of its own, so that it can be in another network; started with child_process.fork. */
export type ServeRequest =
  | { readonly t: 'start'; readonly port: number }
  | { readonly t: 'put'; readonly plural: string; readonly manifest: Manifest }
  | { readonly t: 'remove'; readonly plural: string; readonly key: string }
  | { readonly t: 'complaints' };

export type ServeReport =
  | { readonly t: 'serving'; readonly url: string }
  | { readonly t: 'done' }
  | { readonly t: 'complaints'; readonly complaints: readonly string[] };

let server: KubeApiServer | null = null;

process.on('message', async (request: ServeRequest) => {
  if (request.t === 'start') {
    server = await KubeApiServer.start({ port: request.port });
    report({ t: 'serving', url: server.url });
  }
  if (server === null) throw new Error('the stand-in was not started');
  if (request.t === 'put') server.put(request.plural, request.manifest);
  if (request.t === 'remove') server.remove(request.plural, request.key);
  if (request.t === 'put' || request.t === 'remove') report({ t: 'done' });
  if (request.t === 'complaints') report({ t: 'complaints', complaints: server.complaints });
});
process.on('disconnect', () => process.exit(0));

function report(message: ServeReport): void {
  process.send?.(message);
}
