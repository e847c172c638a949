import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Authority, type Credential, type Subject, validForDays } from '@octoplane/cli/certs/authority.ts';

/** An authority for tests, good for a day: what `octoplane certs` has, with the names that tests issue. */
export class TestAuthority {
  /** PEM. */
  readonly cert: string;
  readonly #authority: Authority;

  private constructor(authority: Authority) {
    this.cert = authority.cert;
    this.#authority = authority;
  }

  static async create(commonName = 'octoplane test authority'): Promise<TestAuthority> {
    return new TestAuthority(await Authority.create(commonName, validForDays(1, Date.now())));
  }

  issue(subject: Omit<Subject, 'use'>, use: Subject['use'] = 'client'): Promise<Credential> {
    return this.#authority.issue({ ...subject, use }, validForDays(1, Date.now()));
  }

  node(name: string): Promise<Credential> {
    return this.issue({ commonName: name, uris: [`octoplane://node/${name}`] });
  }

  admin(name: string): Promise<Credential> {
    return this.issue({ commonName: name, uris: [`octoplane://admin/${name}`] });
  }

  server(): Promise<Credential> {
    return this.issue({ commonName: 'octoplane controller', hosts: ['localhost', '127.0.0.1'] }, 'server');
  }
}

/** Writes cert.pem, key.pem and ca.pem. */
export function writeTlsFiles(directory: string, { cert, key }: Credential, ca: string) {
  mkdirSync(directory, { recursive: true });
  const files = { cert: join(directory, 'cert.pem'), key: join(directory, 'key.pem'), ca: join(directory, 'ca.pem') };
  writeFileSync(files.cert, cert);
  writeFileSync(files.key, key);
  writeFileSync(files.ca, ca);
  return files;
}
