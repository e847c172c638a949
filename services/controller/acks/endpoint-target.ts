import { canonicalIp, type Ip } from '@octoplane/model/address.ts';
import { type Entry, endpointFlags, lowerBound } from '@octoplane/model/rule-set.ts';

/** An endpoint that somebody asks about, by its address; `port` null: whatever its port. */
export interface EndpointTarget {
  readonly ip: Ip;
  readonly port: number | null;
}

const { cluster, local } = endpointFlags;

/** Does the entry send new connections there? An endpoint that drains gets none. */
export function chooses(entry: Entry | null, { ip, port }: EndpointTarget): boolean {
  if (entry === null) return false;
  const { endpoints } = entry;
  for (let i = lowerBound(endpoints, { ip, port: port ?? 0 }); endpoints[i]?.ip === ip; i++) {
    const endpoint = endpoints[i];
    if (endpoint && (port === null || endpoint.port === port) && (endpoint.flags & (cluster | local)) !== 0)
      return true;
  }
  return false;
}

/** "10.244.1.2:8080", "[fd00::1]:8080", or an address alone. Null: it is none of these. */
export function parseEndpointTarget(text: string): EndpointTarget | null {
  const alone = canonicalIp(text);
  if (alone !== null) return { ip: alone, port: null };
  const [, v6, v4, digits = ''] = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text) ?? [];
  const ip = canonicalIp(v6 ?? v4 ?? '');
  const port = Number(digits);
  return ip === null || port < 1 || port > 65_535 ? null : { ip, port };
}

export const formatEndpointTarget = ({ ip, port }: EndpointTarget): string =>
  port === null ? ip : ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
