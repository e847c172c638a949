import { spawn } from 'node:child_process';
import { type Fields, isFields } from '@octoplane/model/findings.ts';
import type { Clock } from '../../clock.ts';
import { KubeError } from './kube-error.ts';

/** The part of a kubeconfig's `exec` that is used (client.authentication.k8s.io). */
export interface ExecConfig {
  readonly apiVersion: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly installHint: string;
  /** Set where the plugin asks for the cluster that it is for. */
  readonly cluster: Fields | null;
}

export interface ExecCredential {
  readonly token: string | null;
  readonly cert: string | null;
  readonly key: string | null;
  /** Milliseconds since 1970; null: until it is refused. */
  readonly expiresAtMs: number | null;
}

/** Cloud plugins ask a metadata service or a token endpoint; one that waits for a person will not be answered here. */
const answerWithinMs = 60_000;
const maxOutput = 1024 * 1024;

/**
 * Runs a credential plugin once, as kubectl does, but never interactively.
 * @throws KubeError CREDENTIALS, ABORTED
 */
export function runExecPlugin(config: ExecConfig, clock: Clock, signal: AbortSignal): Promise<ExecCredential> {
  const { apiVersion, command, cluster } = config;
  const info = {
    apiVersion,
    kind: 'ExecCredential',
    spec: { interactive: false, ...(cluster === null ? {} : { cluster }) },
  };
  return new Promise((resolve, reject) => {
    const env = { ...process.env, ...config.env, KUBERNETES_EXEC_INFO: JSON.stringify(info) };
    const plugin = spawn(command, config.args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    const output = { stdout: '', stderr: '' };
    let settled = false;
    const settle = (end: () => void): void => {
      if (settled) return;
      settled = true;
      late();
      signal.removeEventListener('abort', abort);
      plugin.kill('SIGKILL');
      end();
    };
    const fail = (reason: string, cause?: unknown): void =>
      settle(() =>
        reject(new KubeError('CREDENTIALS', `the credential plugin ${command} ${reason}`, cause ? { cause } : {})),
      );
    const abort = (): void => settle(() => reject(new KubeError('ABORTED', 'the credential plugin was given up')));
    const late = clock.after(answerWithinMs, () => fail(`did not end within ${answerWithinMs / 1000} s`));
    for (const name of ['stdout', 'stderr'] as const)
      plugin[name].setEncoding('utf8').on('data', (text: string) => {
        output[name] += text;
        if (output[name].length > maxOutput) fail(`wrote more than ${maxOutput} characters to ${name}`);
      });
    plugin.on('error', (error: NodeJS.ErrnoException) => {
      const hint = config.installHint === '' ? '' : `: ${config.installHint}`;
      fail(error.code === 'ENOENT' ? `is not installed${hint}` : `cannot be run (${error.message})`, error);
    });
    plugin.on('close', (code, killedBy) => {
      if (code !== 0) {
        fail(`ended with ${code ?? killedBy}: ${output.stderr.trim().slice(-500) || 'it wrote no reason'}`);
        return;
      }
      try {
        const credential = readCredential(output.stdout, apiVersion);
        settle(() => resolve(credential));
      } catch (error) {
        fail(error instanceof Error ? error.message : String(error), error);
      }
    });
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
  });
}

/** @throws Error whose message follows "the credential plugin X". */
export function readCredential(text: string, apiVersion: string): ExecCredential {
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch (cause) {
    throw new Error('wrote something that is not JSON', { cause });
  }
  if (!isFields(answer) || answer['kind'] !== 'ExecCredential') throw new Error('wrote no ExecCredential');
  if (answer['apiVersion'] !== apiVersion)
    throw new Error(`answers in ${String(answer['apiVersion'])}, and the kubeconfig says ${apiVersion}`);
  const status = isFields(answer['status']) ? answer['status'] : {};
  const given = (key: string): string | null => {
    const value = status[key];
    return typeof value === 'string' && value !== '' ? value : null;
  };
  const [token, cert, key, expires] = [
    given('token'),
    given('clientCertificateData'),
    given('clientKeyData'),
    given('expirationTimestamp'),
  ];
  if (token === null && (cert === null || key === null))
    throw new Error('gave neither a token nor a client certificate with its key');
  const expiresAtMs = expires === null ? null : Date.parse(expires);
  if (Number.isNaN(expiresAtMs)) throw new Error(`gave ${JSON.stringify(expires)} as expiration time`);
  return { token, cert, key, expiresAtMs };
}
