import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface KubeconfigEntry {
  readonly server: string;
  /** PEM. */
  readonly ca?: string;
  /** As in a kubeconfig. */
  readonly user?: object;
}

/** A kubeconfig of its own directory, with a context, a cluster and a user of each name; the first is the current one. */
export class KubeconfigFile implements Disposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'octoplane-kubeconfig-'));
  readonly path = join(this.dir, 'config');

  constructor(entries: Readonly<Record<string, KubeconfigEntry>>) {
    this.write(entries);
  }

  write(entries: Readonly<Record<string, KubeconfigEntry>>): void {
    const named = Object.entries(entries);
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': named[0]?.[0] ?? '',
      contexts: named.map(([name]) => ({ name, context: { cluster: name, user: name } })),
      clusters: named.map(([name, { server, ca }]) => ({
        name,
        cluster: {
          server,
          ...(ca === undefined ? {} : { 'certificate-authority-data': Buffer.from(ca).toString('base64') }),
        },
      })),
      users: named.map(([name, { user }]) => ({ name, user: user ?? {} })),
    };
    writeFileSync(this.path, JSON.stringify(config));
  }

  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true, force: true });
  }
}
