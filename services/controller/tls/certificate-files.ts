import { createPrivateKey, X509Certificate } from 'node:crypto';
import { type FSWatcher, readFileSync, watch } from 'node:fs';
import { dirname } from 'node:path';
import { createSecureContext } from 'node:tls';
import type { experimental } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import type { Cancel, Clock } from '../clock.ts';
import { StartError } from '../start-error.ts';

export interface TlsFiles {
  /** PEM: the certificate and what leads to its authority. */
  readonly cert: string;
  readonly key: string;
  /** PEM: authorities that peers' certificates are checked against. */
  readonly ca: string;
}

interface Loaded {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca: Buffer;
}

type Provider = experimental.CertificateProvider;
type CaListener = Parameters<Provider['addCaCertificateListener']>[0];
type IdentityListener = Parameters<Provider['addIdentityCertificateListener']>[0];

/** Writers replace three files one after the other; half a second is between that and what anybody waits for. */
const settleMs = 500;

/**
 * Certificate, key and authorities from files, read again when they change, by rename or in place, or when the directory's link
 * is switched as Kubernetes does it. A set that does not fit together is logged, and the last good one stays.
 */
export class CertificateFiles implements Provider {
  readonly #files: TlsFiles;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #caListeners = new Set<CaListener>();
  readonly #identityListeners = new Set<IdentityListener>();
  #loaded: Loaded;
  #watchers: FSWatcher[] = [];
  #settling: Cancel | null = null;

  /** @throws StartError when the files do not make a usable set now. */
  constructor(files: TlsFiles, clock: Clock, logger: Logger) {
    this.#files = files;
    this.#clock = clock;
    this.#logger = logger;
    this.#loaded = load(files);
  }

  watch(): void {
    const directories = new Set([this.#files.cert, this.#files.key, this.#files.ca].map((file) => dirname(file)));
    this.#watchers = Array.from(directories, (directory) => {
      const watcher = watch(directory, () => this.#changed());
      watcher.on('error', (err) =>
        this.#logger.error({ err, directory }, 'certificates are not watched any more; restart to read them again'),
      );
      watcher.unref();
      return watcher;
    });
  }

  close(): void {
    for (const watcher of this.#watchers) watcher.close();
    this.#watchers = [];
    this.#settling?.();
  }

  addCaCertificateListener(listener: CaListener): void {
    this.#caListeners.add(listener);
    // Not at once: grpc-js 1.14 hears only what comes after it has subscribed.
    queueMicrotask(() => listener({ caCertificate: this.#loaded.ca }));
  }

  removeCaCertificateListener(listener: CaListener): void {
    this.#caListeners.delete(listener);
  }

  addIdentityCertificateListener(listener: IdentityListener): void {
    this.#identityListeners.add(listener);
    queueMicrotask(() => listener({ certificate: this.#loaded.cert, privateKey: this.#loaded.key }));
  }

  removeIdentityCertificateListener(listener: IdentityListener): void {
    this.#identityListeners.delete(listener);
  }

  #changed(): void {
    this.#settling?.();
    this.#settling = this.#clock.after(settleMs, () => this.#reload());
  }

  #reload(): void {
    this.#settling = null;
    let next: Loaded;
    try {
      next = load(this.#files);
    } catch (err) {
      this.#logger.error({ err }, 'the certificate files do not fit together: keeping the last good ones');
      return;
    }
    const { cert, key, ca } = this.#loaded;
    if (next.cert.equals(cert) && next.key.equals(key) && next.ca.equals(ca)) return;
    this.#loaded = next;
    for (const listener of this.#caListeners) listener({ caCertificate: next.ca });
    for (const listener of this.#identityListeners) listener({ certificate: next.cert, privateKey: next.key });
    this.#logger.info({ validTo: new X509Certificate(next.cert).validTo }, 'certificates read again');
  }
}

function load(files: TlsFiles): Loaded {
  const loaded = { cert: read(files.cert), key: read(files.key), ca: read(files.ca) };
  try {
    createSecureContext(loaded);
    const certificate = new X509Certificate(loaded.cert);
    if (!certificate.checkPrivateKey(createPrivateKey(loaded.key)))
      throw new Error('the key is of another certificate');
    new X509Certificate(loaded.ca);
  } catch (cause) {
    throw new StartError(
      'TLS_FILES',
      `${files.cert}, ${files.key} and ${files.ca} are not a certificate, its key and an authority in PEM: ${(cause as Error).message}.`,
      { cause },
    );
  }
  return loaded;
}

function read(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    throw new StartError(
      'TLS_FILES',
      `Cannot read ${file} (${(cause as NodeJS.ErrnoException).code}); give a readable PEM file.`,
      {
        cause,
      },
    );
  }
}
