import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A certificate authority in a directory, by openssl. */
export class Authority {
  readonly #dir: string;
  readonly caFile: string;
  readonly #caKeyFile: string;

  constructor(dir: string, name: string) {
    this.#dir = dir;
    this.caFile = join(dir, `${name}.pem`);
    this.#caKeyFile = join(dir, `${name}.key`);
    openssl('req', '-x509', ...newKey(this.#caKeyFile), '-subj', `/CN=${name}`, '-days', '1', '-out', this.caFile);
  }

  /** Returns PEM texts. `alternative`: "IP:127.0.0.1", "URI:octoplane://node/node-1". */
  issue(name: string, alternative: string): { readonly cert: string; readonly key: string } {
    const file = (kind: string) => join(this.#dir, `${name}.${kind}`);
    writeFileSync(file('ext'), `subjectAltName=${alternative}\n`);
    openssl('req', ...newKey(file('key')), '-subj', `/CN=${name}`, '-out', file('csr'));
    const signer = ['-CA', this.caFile, '-CAkey', this.#caKeyFile, '-CAcreateserial', '-days', '1'];
    openssl('x509', '-req', '-in', file('csr'), ...signer, '-extfile', file('ext'), '-out', file('pem'));
    return { cert: readFileSync(file('pem'), 'utf8'), key: readFileSync(file('key'), 'utf8') };
  }
}

const newKey = (file: string): readonly string[] => [
  '-newkey',
  'ec',
  '-pkeyopt',
  'ec_paramgen_curve:P-256',
  '-nodes',
  '-keyout',
  file,
];

function openssl(...args: readonly string[]): void {
  execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}
