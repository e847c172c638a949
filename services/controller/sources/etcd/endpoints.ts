/** Where a member of an etcd cluster is reached. */
export interface Endpoint {
  /** HOST:PORT, as gRPC takes it. */
  readonly address: string;
  readonly tls: boolean;
}

/**
 * "http://10.0.0.1:2379,http://10.0.0.2:2379" as endpoints. HOST:PORT without a scheme is http, as etcd's own tools read it.
 * @throws Error whose message says what to write instead. It never repeats a password.
 */
export function parseEndpoints(text: string): readonly Endpoint[] {
  const urls = text.split(',').map((part) => part.trim());
  return urls.filter((url) => url !== '').map(parseEndpoint);
}

function parseEndpoint(text: string): Endpoint {
  const form = 'write http://HOST:2379 or https://HOST:2379, several with commas between them';
  let url: URL;
  try {
    url = new URL(/^[a-z]+:\/\//i.test(text) ? text : `http://${text}`);
  } catch (cause) {
    throw new Error(`an etcd address is no URL; ${form}`, { cause });
  }
  if (url.username !== '' || url.password !== '')
    throw new Error(`the etcd address of ${url.host} carries a user; users and passwords are not supported; ${form}`);
  if ((url.protocol !== 'http:' && url.protocol !== 'https:') || url.pathname.length > 1 || url.search !== '')
    throw new Error(`${url.protocol}//${url.host} is not an etcd address; ${form}`);
  return { address: `${url.hostname}:${url.port || '2379'}`, tls: url.protocol === 'https:' };
}

export const formatEndpoints = (endpoints: readonly Endpoint[]): string =>
  endpoints.map(({ address, tls }) => `${tls ? 'https' : 'http'}://${address}`).join(',');
