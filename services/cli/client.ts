import { readFileSync } from 'node:fs';
import { type ChannelCredentials, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { AdminServiceClient } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { CliError, usageError } from './errors.ts';
import type { ClientFlags, TlsFlags } from './flags.ts';

/** Answers of a controller that is there come within this; one that is not is reported after it. */
const answerWithinMs = 10_000;

/** A connection for the length of one verb. */
export async function withClient<T>(flags: ClientFlags, use: (client: AdminServiceClient) => Promise<T>): Promise<T> {
  const client = new AdminServiceClient(flags.server, clientCredentials(flags, flags.server), {
    'grpc.enable_channelz': 0,
    // A question to DNS that nobody here reads, and where nobody answers it the process does not end for many seconds.
    'grpc.service_config_disable_resolution': 1,
    'grpc.max_receive_message_length': 256 * 1024 * 1024,
  });
  try {
    return await use(client);
  } catch (error) {
    throw isServiceError(error) ? translate(error, flags.server) : error;
  } finally {
    client.close();
  }
}

type Unary<Response> = (
  metadata: Metadata,
  options: { deadline: Date },
  done: (error: ServiceError | null, response: Response) => void,
) => unknown;

/** One question, one answer: `ask((...call) => client.getStatus({}, ...call))`. */
export const ask = <Response>(call: Unary<Response>): Promise<Response> =>
  new Promise((resolve, reject) => {
    call(new Metadata(), { deadline: new Date(Date.now() + answerWithinMs) }, (error, response) =>
      error ? reject(error) : resolve(response),
    );
  });

/**
 * TLS where certificates are given. Without them a loopback or unix address is spoken to in plain text: the controller decides
 * whether it answers that, and nothing secret is sent. Anywhere else plain text has to be asked for, twice.
 */
function clientCredentials(flags: TlsFlags, server: string): ChannelCredentials {
  const { tlsCert, tlsKey, tlsCa } = flags;
  if (tlsCert && tlsKey && tlsCa && !flags.insecure)
    return credentials.createSsl(pem('--tls-ca', tlsCa), pem('--tls-key', tlsKey), pem('--tls-cert', tlsCert));
  if (tlsCert || tlsKey || tlsCa)
    throw usageError('--tls-cert, --tls-key and --tls-ca belong together, and exclude --insecure');
  if (isLocal(server) || (flags.insecure && flags.insecureAllowRemote)) return credentials.createInsecure();
  throw usageError(
    flags.insecure
      ? `--insecure to ${server}: not a loopback address; use certificates, or add --insecure-allow-remote`
      : `${server} is not on this machine: give --tls-cert, --tls-key and --tls-ca`,
  );
}

function pem(name: string, file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    throw usageError(`${name} ${file} cannot be read: ${cause instanceof Error ? cause.message : cause}`);
  }
}

const isLocal = (server: string): boolean => /^(unix:.+|(localhost|127\.[\d.]+|\[::1\]):\d+)$/.test(server);

export const isServiceError = (error: unknown): error is ServiceError =>
  error instanceof Error && 'code' in error && 'details' in error;

/** gRPC status to a sentence, once. */
function translate(error: ServiceError, server: string): CliError {
  const { code, details } = error;
  if (code === status.UNAVAILABLE)
    return new CliError(`no controller answers at ${server} (${details}); is it running, and is --server right?`, {
      cause: error,
    });
  if (code === status.DEADLINE_EXCEEDED)
    return new CliError(`the controller at ${server} did not answer in time`, { cause: error });
  if (code === status.UNAUTHENTICATED || code === status.PERMISSION_DENIED)
    return new CliError(`${server} refused: ${details}; this needs an admin certificate`, { cause: error });
  return new CliError(details || error.message, { cause: error });
}
