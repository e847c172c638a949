import 'reflect-metadata'; // @peculiar/x509 does not load without it.
import { randomBytes, webcrypto } from 'node:crypto';
import { isIP } from 'node:net';
import * as x509 from '@peculiar/x509';

/** A certificate and its private key, in PEM. */
export interface Credential {
  readonly cert: string;
  readonly key: string;
}

export interface Subject {
  readonly commonName: string;
  readonly organisation?: string;
  /** URI SANs: what identities are read from. */
  readonly uris?: readonly string[];
  /** DNS names and IP addresses: what clients look for in a server's certificate. */
  readonly hosts?: readonly string[];
  /** Extended key usage. */
  readonly use: 'server' | 'client';
}

export interface Validity {
  readonly from: Date;
  readonly to: Date;
}

/** P-256: small handshakes for thousands of nodes, and every TLS library has it. */
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

const dayMs = 86_400_000;
/** Clocks of other machines are this far behind, at most, when a certificate is used right after it was made. */
const clockSkewMs = 5 * 60_000;

export const validForDays = (days: number, nowMs: number): Validity => ({
  from: new Date(nowMs - clockSkewMs),
  to: new Date(nowMs + days * dayMs),
});

/** Signs the certificates of one installation. It can sign no further authorities. */
export class Authority {
  /** PEM. */
  readonly cert: string;
  readonly key: string;
  readonly #certificate: x509.X509Certificate;
  readonly #signingKey: webcrypto.CryptoKey;

  private constructor(credential: Credential, certificate: x509.X509Certificate, signingKey: webcrypto.CryptoKey) {
    this.cert = credential.cert;
    this.key = credential.key;
    this.#certificate = certificate;
    this.#signingKey = signingKey;
  }

  static async create(commonName: string, validity: Validity): Promise<Authority> {
    const keys = await newKeys();
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      serialNumber: newSerial(),
      name: nameOf({ commonName }),
      notBefore: validity.from,
      notAfter: validity.to,
      keys,
      signingAlgorithm: algorithm,
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    });
    const credential = { cert: pemText(certificate), key: await privatePem(keys.privateKey) };
    return new Authority(credential, certificate, keys.privateKey);
  }

  /** @throws Error when these are not an authority's certificate and its own P-256 key */
  static async load(credential: Credential): Promise<Authority> {
    const certificate = new x509.X509Certificate(credential.cert);
    if (!certificate.getExtension(x509.BasicConstraintsExtension)?.ca)
      throw new Error('the certificate is not of an authority');
    const pkcs8 = x509.PemConverter.decodeFirst(credential.key);
    const key = await webcrypto.subtle.importKey('pkcs8', pkcs8, algorithm, false, ['sign']);
    const publicKey = await certificate.publicKey.export(algorithm, ['verify'], globalThis.crypto);
    const probe = randomBytes(32);
    const signature = await webcrypto.subtle.sign(algorithm, key, probe);
    if (!(await webcrypto.subtle.verify(algorithm, publicKey, signature, probe)))
      throw new Error('the key is of another certificate');
    return new Authority(credential, certificate, key);
  }

  get notAfter(): Date {
    return this.#certificate.notAfter;
  }

  /** Never valid for longer than the authority itself. */
  async issue(subject: Subject, validity: Validity): Promise<Credential> {
    const keys = await newKeys();
    const names = [
      ...(subject.uris ?? []).map((value) => ({ type: 'url', value }) as const),
      ...(subject.hosts ?? []).map((value) => ({ type: isIP(value) ? 'ip' : 'dns', value }) as const),
    ];
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: newSerial(),
      subject: nameOf(subject),
      issuer: this.#certificate.subjectName,
      notBefore: validity.from,
      notAfter: new Date(Math.min(validity.to.getTime(), this.notAfter.getTime())),
      publicKey: keys.publicKey,
      signingKey: this.#signingKey,
      signingAlgorithm: algorithm,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([
          x509.ExtendedKeyUsage[subject.use === 'server' ? 'serverAuth' : 'clientAuth'],
        ]),
        ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : []),
        await x509.AuthorityKeyIdentifierExtension.create(this.#certificate.publicKey),
      ],
    });
    return { cert: pemText(certificate), key: await privatePem(keys.privateKey) };
  }
}

x509.cryptoProvider.set(globalThis.crypto);

const newKeys = () => webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);

/** 128 bits of chance, positive. */
function newSerial(): string {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0] ?? 0) & 0x7f;
  return bytes.toString('hex');
}

const nameOf = ({ commonName, organisation }: Pick<Subject, 'commonName' | 'organisation'>): x509.JsonName => [
  ...(organisation === undefined ? [] : [{ O: [organisation] }]),
  { CN: [commonName] },
];

const pemText = (certificate: x509.X509Certificate): string => `${certificate.toString('pem')}\n`;

async function privatePem(key: webcrypto.CryptoKey): Promise<string> {
  return `${x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY')}\n`;
}
