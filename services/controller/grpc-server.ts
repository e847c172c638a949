import {
  experimental,
  logVerbosity,
  Server,
  ServerCredentials,
  type ServerOptions,
  setLogVerbosity,
} from '@grpc/grpc-js';
import type { Door } from './door.ts';
import { StartError } from './start-error.ts';
import { maxRequestBytes } from './stream/messages.ts';
import type { CertificateFiles } from './tls/certificate-files.ts';

const serverOptions: ServerOptions = {
  // A peer that vanished without a FIN is found in 30 s; every 20 s a ping costs 5,000 nodes 250 packets a second.
  'grpc.keepalive_time_ms': 20_000,
  'grpc.keepalive_timeout_ms': 10_000,
  // Channelz books leak per connection (grpc-node #1941, #1958, #2068), and nothing here reads them.
  'grpc.enable_channelz': 0,
  'grpc.max_receive_message_length': maxRequestBytes,
  // One stream per node; an admin client has a few calls.
  'grpc.max_concurrent_streams': 100,
};

export function newGrpcServer(door: Door | null = null): Server {
  // What it would print on stderr comes as errors as well.
  setLogVerbosity(logVerbosity.NONE);
  return new Server({ ...serverOptions, interceptors: door ? [door.interceptor] : [] });
}

/** Null: plaintext. Clients must present a certificate, and certificates are taken from the files as they change. */
export const serverCredentials = (files: CertificateFiles | null): ServerCredentials =>
  files
    ? experimental.createCertificateProviderServerCredentials(files, files, true)
    : ServerCredentials.createInsecure();

/**
 * Resolves with the port, which the address may leave to the system with 0. Through the door where there is one; who may use a unix
 * socket is its file's to say.
 */
export async function listen(
  server: Server,
  address: string,
  credentials: ServerCredentials,
  door: Door | null = null,
): Promise<number> {
  try {
    if (door && !address.startsWith('unix:')) return await door.listen(hostPortOf(address), server, credentials);
    return await new Promise((resolve, reject) => {
      server.bindAsync(address, credentials, (cause, port) => (cause ? reject(cause) : resolve(port)));
    });
  } catch (cause) {
    throw listenError('--listen', address, cause as Error);
  }
}

export function hostPortOf(address: string): { readonly host: string; readonly port: number } {
  const colon = address.lastIndexOf(':');
  return { host: address.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(address.slice(colon + 1)) };
}

export function listenError(flag: string, address: string, cause: Error): StartError {
  const inUse = /EADDRINUSE/.test(cause.message);
  return new StartError(
    inUse ? 'PORT_IN_USE' : 'LISTEN_ADDRESS',
    inUse
      ? `${address} is in use; stop what listens there, or choose another ${flag}.`
      : `Cannot listen on ${address}: ${cause.message}; give an address of this machine to ${flag}.`,
    { cause },
  );
}
