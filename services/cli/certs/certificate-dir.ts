import { randomUUID, X509Certificate } from 'node:crypto';
import { chownSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { dirname, join } from 'node:path';
import { CliError } from '../errors.ts';
import { Authority, type Credential, type Subject, validForDays } from './authority.ts';

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

export interface Issuing {
  readonly days: number;
  /** Replace what is there, however long it is valid. */
  readonly renew: boolean;
  /** Of the private keys and the directories they are in; null: whoever runs this. */
  readonly owner: Owner | null;
}

export interface Issued {
  readonly directory: string;
  readonly outcome: 'made' | 'renewed' | 'kept';
  readonly notAfter: Date;
}

/**
 * The certificates of an installation, a directory for each holder, with the file names of a kubernetes.io/tls Secret:
 *
 *   ca/ca.crt, ca/ca.key      the authority; ca.key stays where certificates are made
 *   WHO/tls.crt, tls.key      a certificate and its key
 *   WHO/ca.crt                the authority again, so that one directory is all that one machine gets
 *
 * What is there and good for another third of its time is kept, so that making certificates again is harmless and renews those
 * that need it. Keys are readable by their owner alone, are written whole or not at all, and appear in no message.
 */
export class CertificateDir {
  readonly #dir: string;
  readonly #nowMs: () => number;

  constructor(dir: string, nowMs: () => number = Date.now) {
    this.#dir = dir;
    this.#nowMs = nowMs;
  }

  /** Kept for ever once made: a new one makes every certificate of the old one a stranger's. */
  async authority(days: number): Promise<Issued> {
    const directory = join(this.#dir, 'ca');
    if (this.#read(join('ca', 'ca.crt')) !== null) {
      const { notAfter } = await this.#load();
      return { directory, outcome: 'kept', notAfter };
    }
    const authority = await Authority.create('octoplane', validForDays(days, this.#nowMs()));
    makeDirectory(directory, null);
    write(join(directory, 'ca.key'), authority.key, 0o600, null);
    write(join(directory, 'ca.crt'), authority.cert, 0o644, null);
    return { directory, outcome: 'made', notAfter: authority.notAfter };
  }

  async issue(who: string, subject: Subject, issuing: Issuing): Promise<Issued> {
    const authority = await this.#load();
    const directory = join(this.#dir, who);
    const held = this.#held(who);
    if (held && !issuing.renew && isGood(held, authority, subject, this.#nowMs()))
      return { directory, outcome: 'kept', notAfter: held.validToDate };
    const credential = await authority.issue(subject, validForDays(issuing.days, this.#nowMs()));
    makeDirectory(directory, issuing.owner);
    writeAll(directory, credential, authority.cert, issuing.owner);
    const { validToDate } = new X509Certificate(credential.cert);
    return { directory, outcome: held ? 'renewed' : 'made', notAfter: validToDate };
  }

  async #load(): Promise<Authority> {
    const cert = this.#read(join('ca', 'ca.crt'));
    const key = this.#read(join('ca', 'ca.key'));
    if (cert === null || key === null)
      throw new CliError(`${this.#dir} has no authority yet: run octoplane certs ca --dir ${this.#dir} first`);
    try {
      return await Authority.load({ cert, key });
    } catch (cause) {
      throw new CliError(
        `ca.crt and ca.key in ${join(this.#dir, 'ca')} do not make an authority (${messageOf(cause)}): restore them, or remove both and start anew`,
        { cause },
      );
    }
  }

  /** Null: nothing usable is there, and so nothing is lost when it is written anew. */
  #held(who: string): X509Certificate | null {
    const cert = this.#read(join(who, 'tls.crt'));
    if (cert === null || this.#read(join(who, 'tls.key')) === null) return null;
    try {
      return new X509Certificate(cert);
    } catch {
      return null;
    }
  }

  #read(path: string): string | null {
    try {
      return readFileSync(join(this.#dir, path), 'utf8');
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw new CliError(`${join(this.#dir, path)} cannot be read: ${messageOf(cause)}`, { cause });
    }
  }
}

function isGood(
  held: X509Certificate,
  authority: Authority,
  { uris = [], hosts = [] }: Subject,
  nowMs: number,
): boolean {
  if (!held.verify(new X509Certificate(authority.cert).publicKey)) return false;
  const names = new Set((held.subjectAltName ?? '').split(', '));
  const isNamed =
    uris.every((uri) => names.has(`URI:${uri}`)) &&
    hosts.every((host) => (isIP(host) ? held.checkIP(host) : held.checkHost(host)) !== undefined);
  const lifetimeMs = held.validToDate.getTime() - held.validFromDate.getTime();
  return isNamed && held.validToDate.getTime() - nowMs > lifetimeMs / 3;
}

/** The certificate last: daemons read a set again when it changes, and by then it fits together. */
function writeAll(directory: string, { cert, key }: Credential, ca: string, owner: Owner | null): void {
  write(join(directory, 'ca.crt'), ca, 0o644, owner);
  write(join(directory, 'tls.key'), key, 0o600, owner);
  write(join(directory, 'tls.crt'), cert, 0o644, owner);
}

function makeDirectory(directory: string, owner: Owner | null): void {
  attempt(directory, () => {
    mkdirSync(dirname(directory), { recursive: true });
    if (!existsSync(directory)) mkdirSync(directory, { mode: 0o700 });
    if (owner) chownSync(directory, owner.uid, owner.gid);
  });
}

/** By rename, so that nobody reads half a file; the mode is there before the content is. */
function write(path: string, text: string, mode: number, owner: Owner | null): void {
  const draft = `${path}.${randomUUID()}`;
  attempt(path, () => {
    try {
      writeFileSync(draft, text, { mode, flag: 'wx' });
      if (owner) chownSync(draft, owner.uid, owner.gid);
      renameSync(draft, path);
    } finally {
      rmSync(draft, { force: true });
    }
  });
}

function attempt(path: string, act: () => void): void {
  try {
    act();
  } catch (cause) {
    throw new CliError(`${path} cannot be written: ${messageOf(cause)}`, { cause });
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
