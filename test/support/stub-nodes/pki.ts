import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A certificate and its key, in PEM. */
export interface Credential {
  readonly cert: string;
  readonly key: string;
}

export interface Subject {
  readonly commonName: string;
  readonly organisation?: string;
  /** URI SANs. */
  readonly uris?: readonly string[];
  readonly dns?: readonly string[];
  readonly ips?: readonly string[];
}

/**
 * An authority for tests: P-256 certificates in milliseconds, thousands of them for a fleet, without a program to start. It writes
 * just the X.509 (RFC 5280) that node:tls needs.
 */
export class TestAuthority {
  readonly cert: string;
  readonly #key: KeyObject;
  readonly #name: Buffer;

  constructor(commonName = 'octoplane test authority') {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    this.#key = privateKey;
    this.#name = nameOf({ commonName });
    this.cert = this.#issue({ commonName }, publicKey, [basicConstraintsCa]);
  }

  issue(subject: Subject): Credential {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const names = [
      ...(subject.uris ?? []).map((uri) => der(0x86, Buffer.from(uri))),
      ...(subject.dns ?? []).map((dns) => der(0x82, Buffer.from(dns))),
      ...(subject.ips ?? []).map((ip) => der(0x87, Buffer.from(ip.split('.').map(Number)))),
    ];
    const extensions = names.length === 0 ? [] : [extension('2.5.29.17', sequence(...names))];
    return {
      cert: this.#issue(subject, publicKey, extensions),
      key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    };
  }

  node(name: string): Credential {
    return this.issue({ commonName: name, uris: [`octoplane://node/${name}`] });
  }

  admin(name: string): Credential {
    return this.issue({ commonName: name, uris: [`octoplane://admin/${name}`] });
  }

  server(): Credential {
    return this.issue({ commonName: 'octoplane controller', dns: ['localhost'], ips: ['127.0.0.1'] });
  }

  #issue(subject: Subject, publicKey: KeyObject, extensions: readonly Buffer[]): string {
    const algorithm = sequence(oid('1.2.840.10045.4.3.2'));
    const toSign = sequence(
      der(0xa0, der(0x02, Buffer.of(2))),
      der(0x02, Buffer.concat([Buffer.of(1), randomBytes(8)])),
      algorithm,
      this.#name,
      sequence(utcTime(-3_600_000), utcTime(86_400_000)),
      nameOf(subject),
      publicKey.export({ type: 'spki', format: 'der' }),
      ...(extensions.length === 0 ? [] : [der(0xa3, sequence(...extensions))]),
    );
    const signature = der(0x03, Buffer.concat([Buffer.of(0), sign('sha256', toSign, this.#key)]));
    const base64 =
      sequence(toSign, algorithm, signature)
        .toString('base64')
        .match(/.{1,64}/g)
        ?.join('\n') ?? '';
    return `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`;
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

function der(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255];
  return Buffer.concat([Buffer.of(tag, ...size), content]);
}

const sequence = (...parts: readonly Buffer[]): Buffer => der(0x30, Buffer.concat(parts));

function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const arc of rest) {
    const digits = [arc & 127];
    for (let value = arc >> 7; value > 0; value >>= 7) digits.unshift((value & 127) | 128);
    bytes.push(...digits);
  }
  return der(0x06, Buffer.from(bytes));
}

function nameOf({ commonName, organisation }: Subject): Buffer {
  const attribute = (type: string, value: string) => der(0x31, sequence(oid(type), der(0x0c, Buffer.from(value))));
  const organisations = organisation === undefined ? [] : [attribute('2.5.4.10', organisation)];
  return sequence(...organisations, attribute('2.5.4.3', commonName));
}

const extension = (type: string, value: Buffer): Buffer => sequence(oid(type), der(0x04, value));
const basicConstraintsCa = sequence(
  oid('2.5.29.19'),
  der(0x01, Buffer.of(255)),
  der(0x04, sequence(der(0x01, Buffer.of(255)))),
);

function utcTime(offsetMs: number): Buffer {
  const digits = new Date(Date.now() + offsetMs).toISOString().replaceAll(/[-:T]|\.\d+/g, '');
  return der(0x17, Buffer.from(digits.slice(2)));
}
