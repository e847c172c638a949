import { release } from 'node:os';
import { NetlinkError } from '../../netlink/errors.ts';
import { type Capability, needing } from '../capabilities.ts';
import type { DriverModule, DriverOptions, Probe } from '../driver.ts';
import { NftablesDriver } from './driver.ts';
import { KernelTable } from './kernel.ts';
import { load, runNft } from './libnftables.ts';

/** Rejecting before routing (5.9), chain comments (5.10), and what KEP-3866 asks for. Tested on 6.18 only. */
const leastKernel = [5, 13] as const;

const capabilities: readonly Capability[] = ['NET_ADMIN'];

export const nftables: DriverModule = {
  name: 'nftables',
  flows: 'netfilter',
  capabilities,
  probe: needing(capabilities, probe),

  async open(options: DriverOptions) {
    return new NftablesDriver(options);
  },
};

async function probe(): Promise<Probe> {
  const lacks = [kernelVersionLack(release()), libraryLack(), kernelLack()].filter((lack) => lack !== null);
  if (lacks.length > 0) return { t: 'unable', lacks };
  return { t: 'able', details: [`kernel ${release()}`, 'nf_tables answers', 'libnftables is there'] };
}

export function kernelVersionLack(version: string): string | null {
  const [major = 0, minor = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  const [leastMajor, leastMinor] = leastKernel;
  if (major > leastMajor || (major === leastMajor && minor >= leastMinor)) return null;
  return `the nftables driver needs kernel ${leastKernel.join('.')} or later, this is ${version}: use --driver iptables`;
}

function libraryLack(): string | null {
  try {
    load();
    return null;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return `libnftables.so.1 cannot be loaded (${reason}): install the package libnftables1 (Debian, Ubuntu) or nftables`;
  }
}

function kernelLack(): string | null {
  try {
    using kernel = new KernelTable();
    kernel.exists();
    runNft(checkOnly);
    return null;
  } catch (error) {
    if (error instanceof NetlinkError && error.code === 'EPERM') {
      return 'nf_tables answers only to CAP_NET_ADMIN in this network namespace: run as root, or grant that capability';
    }
    const reason = error instanceof Error ? error.message : String(error);
    return `nf_tables does not work here (${reason}): load the kernel module nf_tables, or use --driver iptables`;
  }
}

/** Reads, and so needs nothing but that the library and the kernel understand one another. */
const checkOnly = 'list tables inet\n';
