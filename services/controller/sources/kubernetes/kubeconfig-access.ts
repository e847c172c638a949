import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '../../clock.ts';
import type { Access, AccessSource } from './access.ts';
import { type ExecCredential, runExecPlugin } from './exec-plugin.ts';
import { KubeError } from './kube-error.ts';
import { type ConfigText, type KubeContext, type Material, readKubeconfig } from './kubeconfig.ts';

export interface KubeconfigOptions {
  /** Empty: the current one. */
  readonly context: string;
  /** --kubeconfig; null: KUBECONFIG, ~/.kube/config, and then the pod's service account, as kubectl looks for it. */
  readonly file: string | null;
  readonly clock: Clock;
  /** Default: process.env. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Where a pod finds its service account. Default: where Kubernetes mounts it. */
  readonly serviceAccountDir?: string;
}

/**
 * Files are looked at again when they are needed and this old. 10 s: a rotated token or CA is found before the old one ends, and a list of
 * many pages reads them once.
 */
const maxAgeMs = 10_000;
/** A plugin's token is renewed so long before its end: a request takes a moment. */
const renewBeforeMs = 10_000;

/** Access by a kubeconfig, or by the service account of the pod. */
export class KubeconfigAccess implements AccessSource {
  readonly #options: KubeconfigOptions;
  #held: { readonly access: Promise<Access>; readonly readAtMs: number } | null = null;
  #credential: ExecCredential | null = null;

  constructor(options: KubeconfigOptions) {
    this.#options = options;
  }

  current(signal: AbortSignal): Promise<Access> {
    const nowMs = this.#nowMs();
    const expired = (this.#credential?.expiresAtMs ?? Infinity) - renewBeforeMs <= nowMs;
    if (expired) this.#credential = null;
    const held = this.#held;
    if (held !== null && !expired && nowMs - held.readAtMs < maxAgeMs) return held.access;
    const access = this.#read(signal);
    this.#held = { access, readAtMs: nowMs };
    // What failed is tried again by the next one; who asked is told by the promise itself.
    access.catch(() => {
      if (this.#held?.access === access) this.#held = null;
    });
    return access;
  }

  renew(): void {
    this.#held = null;
    this.#credential = null;
  }

  /** The context itself. @throws Error when the kubeconfig cannot be read, or has it not. */
  async context(): Promise<KubeContext> {
    const { context, file, env = process.env } = this.#options;
    const listed = (env['KUBECONFIG'] ?? '').split(':').filter((path) => path !== '');
    const named = file === null ? listed : [file];
    const paths = named.length > 0 ? named : [join(env['HOME'] ?? homedir(), '.kube', 'config')];
    // Like kubectl: of several, those that are not there do not count.
    const texts = (await Promise.all(paths.map((path) => textOf(path)))).filter((text) => text !== null);
    if (texts.length > 0) return readKubeconfig(texts, context);
    if (file === null && context === '' && env['KUBERNETES_SERVICE_HOST']) return this.#inCluster(env);
    throw new Error(
      `there is no kubeconfig at ${paths.join(', ')}; name one with --kubeconfig${context === '' ? ', or run in a pod with a service account' : ''}`,
    );
  }

  #inCluster(env: Readonly<Record<string, string | undefined>>): KubeContext {
    const dir = this.#options.serviceAccountDir ?? '/var/run/secrets/kubernetes.io/serviceaccount';
    const host = env['KUBERNETES_SERVICE_HOST'] ?? '';
    const port = env['KUBERNETES_SERVICE_PORT'] ?? '443';
    return {
      name: 'in-cluster',
      server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
      ca: { t: 'file', path: join(dir, 'ca.crt') },
      servername: null,
      unverified: false,
      proxyUrl: null,
      user: {
        cert: null,
        key: null,
        token: null,
        tokenFile: join(dir, 'token'),
        exec: null,
        basic: null,
        impersonate: {},
      },
    };
  }

  async #read(signal: AbortSignal): Promise<Access> {
    try {
      const { server, ca, servername, unverified, proxyUrl, user } = await this.context();
      const plugin = user.exec === null ? null : await this.#ask(user.exec, signal);
      const token =
        plugin?.token ?? (user.tokenFile === null ? user.token : (await readFile(user.tokenFile, 'utf8')).trim());
      const basic = user.basic && Buffer.from(`${user.basic.username}:${user.basic.password}`).toString('base64');
      const authorization = token ? `Bearer ${token}` : basic ? `Basic ${basic}` : null;
      return {
        server,
        proxyUrl,
        tls: {
          ca: await pemOf(ca),
          cert: plugin?.cert ?? (await pemOf(user.cert)),
          key: plugin?.key ?? (await pemOf(user.key)),
          servername,
          unverified,
        },
        headers: { ...user.impersonate, ...(authorization === null ? {} : { Authorization: authorization }) },
      };
    } catch (error) {
      if (error instanceof KubeError) throw error;
      throw new KubeError('CREDENTIALS', error instanceof Error ? error.message : String(error), { cause: error });
    }
  }

  async #ask(exec: NonNullable<KubeContext['user']['exec']>, signal: AbortSignal): Promise<ExecCredential> {
    this.#credential ??= await runExecPlugin(exec, this.#options.clock, signal);
    return this.#credential;
  }

  #nowMs(): number {
    return this.#options.clock.nowUs() / 1000;
  }
}

async function pemOf(material: Material | null): Promise<string | null> {
  if (material === null) return null;
  return material.t === 'data' ? material.pem : readFile(material.path, 'utf8');
}

/** Null: it is not there. */
async function textOf(path: string): Promise<ConfigText | null> {
  try {
    return { path, text: await readFile(path, 'utf8') };
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
}
