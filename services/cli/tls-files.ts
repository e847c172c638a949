import { usageError } from './errors.ts';
import type { TlsFlags } from './flags.ts';

export type TransportFiles =
  | { readonly t: 'mtls'; readonly certFile: string; readonly keyFile: string; readonly caFile: string }
  | { readonly t: 'insecure' };

/** What the daemons are told: certificates, or --insecure in so many words. Whether an address allows it is theirs to say. */
export function transport({ tlsCert, tlsKey, tlsCa, insecure }: TlsFlags): TransportFiles {
  if (insecure) {
    if (tlsCert || tlsKey || tlsCa) throw usageError('--insecure excludes --tls-cert, --tls-key and --tls-ca');
    return { t: 'insecure' };
  }
  if (!tlsCert || !tlsKey || !tlsCa)
    throw usageError('give --tls-cert, --tls-key and --tls-ca, or --insecure on a laptop');
  return { t: 'mtls', certFile: tlsCert, keyFile: tlsKey, caFile: tlsCa };
}
