import { readFile } from 'node:fs/promises';
import { type ChannelCredentials, Client, type ClientOptions, connectivityState, credentials } from '@grpc/grpc-js';
import { RulesServiceService, StreamResponse } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { Stream } from './session.ts';

export type Transport =
  /** Paths of PEM files. */
  | { readonly t: 'mtls'; readonly certFile: string; readonly keyFile: string; readonly caFile: string }
  | { readonly t: 'insecure' };

const options: ClientOptions = {
  // Dead peers are found within 15 s; grpc-js on the other side does not count such pings against us.
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  // The default of 64 KiB makes a snapshot wait for a round trip every 64 KiB.
  'grpc-node.flow_control_window': 4 << 20,
  // A frame is at most 256 KiB unless a single entry is larger.
  'grpc.max_receive_message_length': 64 << 20,
  // Reconnecting is ours: with jitter and several addresses.
  'grpc.enable_retries': 0,
  'grpc.service_config_disable_resolution': 1,
  'grpc.use_local_subchannel_pool': 1,
  // Controllers are reached directly, whatever http_proxy says.
  'grpc.enable_http_proxy': 0,
  // Leaks (grpc-node 1941, 1958, 2068), and nobody asks for it.
  'grpc.enable_channelz': 0,
};

/** One connection to one controller. */
export class Channel {
  readonly #client: Client;

  constructor(address: string, transport: ChannelCredentials) {
    this.#client = new Client(address, transport, options);
  }

  /**
   * Resolves when the connection stands or was refused: a call then fails at once and says why, so the reason needs no
   * second way. @throws Error when neither happens in time
   */
  async settled(timeoutMs: number): Promise<void> {
    const channel = this.#client.getChannel();
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const state = channel.getConnectivityState(true);
      if (state === connectivityState.READY || state === connectivityState.TRANSIENT_FAILURE) return;
      if (state === connectivityState.SHUTDOWN) throw new Error('the channel was closed');
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      channel.watchConnectivityState(state, deadline, (error) =>
        error ? reject(new Error(`no answer within ${timeoutMs} ms`, { cause: error })) : resolve(),
      );
      await promise;
    }
  }

  stream(): Stream {
    const { path, requestSerialize } = RulesServiceService.stream;
    return this.#client.makeBidiStreamRequest(path, requestSerialize, (bytes: Buffer) => ({
      response: StreamResponse.decode(bytes),
      bytes: bytes.length,
    }));
  }

  close(): void {
    this.#client.close();
  }
}

/** Read anew for every connection, so that renewed certificates are used without a restart. @throws the file's error */
export async function credentialsFor(transport: Transport): Promise<ChannelCredentials> {
  if (transport.t === 'insecure') return credentials.createInsecure();
  const [ca, key, cert] = await Promise.all([
    readFile(transport.caFile),
    readFile(transport.keyFile),
    readFile(transport.certFile),
  ]);
  return credentials.createSsl(ca, key, cert);
}
