import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { ConntrackOptions } from '../options.ts';

/** One kernel setting: a name under /proc/sys/net/netfilter and what becomes of the value found. */
export interface Setting {
  readonly name: string;
  readonly value: number;
  /** `raise`: only if it is lower; `set`: in any case. */
  readonly mode: 'raise' | 'set';
}

/** What the options ask for (P36); 0 asks for nothing. */
export function conntrackSettings(options: ConntrackOptions, cores: number): readonly Setting[] {
  const wanted: Setting[] = [
    { name: 'nf_conntrack_max', value: Math.max(options.min, options.maxPerCore * cores), mode: 'raise' },
    { name: 'nf_conntrack_tcp_timeout_established', value: options.tcpEstablishedTimeoutSeconds, mode: 'set' },
    { name: 'nf_conntrack_tcp_timeout_close_wait', value: options.tcpCloseWaitTimeoutSeconds, mode: 'set' },
    { name: 'nf_conntrack_udp_timeout', value: options.udpTimeoutSeconds, mode: 'set' },
    { name: 'nf_conntrack_udp_timeout_stream', value: options.udpStreamTimeoutSeconds, mode: 'set' },
    { name: 'nf_conntrack_tcp_be_liberal', value: options.tcpBeLiberal ? 1 : 0, mode: 'set' },
  ];
  return wanted.filter(({ value }) => value > 0);
}

/**
 * Applies them. One that cannot be applied is reported and costs nothing else: containers often see /proc/sys read-only, and in
 * a network namespace of its own nf_conntrack_max belongs to the host.
 */
export async function applySettings(
  settings: readonly Setting[],
  logger: Logger,
  directory = '/proc/sys/net/netfilter',
): Promise<void> {
  for (const { name, value, mode } of settings) {
    const path = join(directory, name);
    try {
      const found = Number((await readFile(path, 'utf8')).trim());
      if (mode === 'raise' ? found >= value : found === value) continue;
      await writeFile(path, String(value));
      logger.info({ setting: name, from: found, to: value }, 'kernel setting changed');
    } catch (error) {
      logger.warn(
        { err: error, setting: name, wanted: value },
        'kernel setting left as it is: set it on the host, or pass 0',
      );
    }
  }
}
