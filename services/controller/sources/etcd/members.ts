import { readFileSync } from 'node:fs';
import type { Endpoint } from './endpoints.ts';
import { EtcdClient } from './etcd-client.ts';
import { EtcdError } from './etcd-error.ts';

/** Files in PEM. Each may be left out: etcd may ask for no certificate, or have one of an authority that the machine trusts. */
export interface EtcdTlsFiles {
  readonly ca: string | null;
  readonly cert: string | null;
  readonly key: string | null;
}

export const noTlsFiles: EtcdTlsFiles = { ca: null, cert: null, key: null };

/** The members of one etcd cluster. Certificates are read for every connection, so that renewed ones need no restart. */
export class EtcdMembers {
  readonly #endpoints: readonly Endpoint[];
  readonly #files: EtcdTlsFiles;
  /** The member that answered last. */
  #first = 0;

  constructor(endpoints: readonly Endpoint[], files: EtcdTlsFiles = noTlsFiles) {
    this.#endpoints = endpoints;
    this.#files = files;
  }

  get size(): number {
    return this.#endpoints.length;
  }

  /** A connection to the member of that turn; the caller closes it. @throws EtcdError */
  connect(turn: number): EtcdClient {
    const endpoint = this.#endpoints[turn % this.#endpoints.length];
    if (!endpoint) throw new EtcdError('REFUSED', 'no member of etcd is named; write http://HOST:2379');
    return new EtcdClient(endpoint, endpoint.tls ? readFiles(this.#files) : null);
  }

  /**
   * One piece of work, tried on each member in turn until one answers. It may have been done by a member that failed to say so: it must
   * do no harm when it is done twice.
   * @throws EtcdError
   */
  async use<T>(work: (client: EtcdClient) => Promise<T>): Promise<T> {
    let failure: unknown = new EtcdError('REFUSED', 'no member of etcd is named; write http://HOST:2379');
    const first = this.#first;
    for (let turn = first; turn < first + this.#endpoints.length; turn++) {
      try {
        using client = this.connect(turn);
        const result = await work(client);
        this.#first = turn;
        return result;
      } catch (error) {
        if (!(error instanceof EtcdError) || error.code !== 'UNAVAILABLE') throw error;
        failure = error;
      }
    }
    throw failure;
  }
}

function readFiles({ ca, cert, key }: EtcdTlsFiles) {
  return { ca: readPem(ca), cert: readPem(cert), key: readPem(key) };
}

/** A file that cannot be read now may be there again later: it is being replaced. */
function readPem(file: string | null): Buffer | null {
  if (file === null) return null;
  try {
    return readFileSync(file);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new EtcdError(
      'UNAVAILABLE',
      `${file} cannot be read (${reason}); see --etcd-ca, --etcd-cert and --etcd-key`,
      {
        cause,
      },
    );
  }
}
