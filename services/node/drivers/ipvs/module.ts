import { existsSync } from 'node:fs';
import { release } from 'node:os';
import type { Family } from '@octoplane/model/keys.ts';
import { NetlinkError } from '../../netlink/errors.ts';
import { type Capability, needing } from '../capabilities.ts';
import type { Driver, DriverModule, DriverOptions, IpvsOptions, Probe } from '../driver.ts';
import { ServiceDevice } from './device.ts';
import { IpvsDriver } from './driver.ts';
import { Iptables, IptablesError } from './iptables.ts';
import { NodeAddresses } from './node-addresses.ts';
import { setSpec } from './set-names.ts';
import { IpSets } from './sets.ts';
import { IpvsTable } from './table.ts';

/**
 * The least kernel. Until 5.9 a client that uses a source port again waits a second for an answer, or is sent to an endpoint that
 * takes no new connections; no setting cures both (README.md of this directory).
 */
const leastKernel = [5, 9] as const;

const defaults: IpvsOptions = {
  scheduler: 'rr',
  strictArp: false,
  tcpTimeoutSeconds: 0,
  tcpFinTimeoutSeconds: 0,
  udpTimeoutSeconds: 0,
};

const capabilities: readonly Capability[] = ['NET_ADMIN'];

export const ipvs: DriverModule = {
  name: 'ipvs',
  // IPVS gives the connections that conntrack follows their translation, so stale flows are found there as with the others.
  flows: 'netfilter',
  capabilities,
  probe: needing(capabilities, probe),
  open,
};

async function probe(options: DriverOptions): Promise<Probe> {
  const lacks: string[] = [];
  const lack = async (what: () => unknown, sentence: (error: Error) => string) => {
    try {
      await what();
    } catch (error) {
      if (!(error instanceof NetlinkError || error instanceof IptablesError)) throw error;
      lacks.push(error instanceof NetlinkError && error.code === 'EPERM' ? error.message : sentence(error));
    }
  };
  if (!isAtLeast(release()))
    lacks.push(`IPVS needs Linux ${leastKernel.join('.')} or later, and this is ${release()}: use another driver`);
  await lack(
    () => IpvsTable.open()[Symbol.dispose](),
    (error) => `the kernel has no IPVS (${error.message}): load the module ip_vs, or use another driver`,
  );
  await lack(
    () => {
      using sets = IpSets.open();
      sets.elements(setSpec('internal', 'IPv4'));
    },
    (error) => `the kernel has no IP sets (${error.message}): load the modules ip_set and xt_set`,
  );
  const found: string[] = [];
  await lack(
    async () => found.push(`iptables: ${(await Iptables.detect()).flavour}`),
    (error) => `a few rules of iptables are needed: ${error.message}`,
  );
  if (lacks.length > 0) return { t: 'unable', lacks };
  const { scheduler } = { ...defaults, ...options.ipvs };
  return { t: 'able', details: [`scheduler: ${scheduler}`, `families: ${families().join(', ')}`, ...found] };
}

async function open(options: DriverOptions): Promise<Driver> {
  const { scheduler, strictArp, ...timeouts } = { ...defaults, ...options.ipvs };
  const iptables = await Iptables.detect();
  const table = IpvsTable.open();
  const sets = IpSets.open();
  const device = ServiceDevice.open();
  table.setTimeouts({
    tcpSeconds: timeouts.tcpTimeoutSeconds,
    tcpFinSeconds: timeouts.tcpFinTimeoutSeconds,
    udpSeconds: timeouts.udpTimeoutSeconds,
  });
  const nodeAddresses = new NodeAddresses(device, options.nodePortAddresses, options.nodeAddresses);
  return new IpvsDriver(
    { table, sets, device, iptables, nodeAddresses },
    {
      families: families(),
      scheduler,
      strictArp,
      rules: options,
      logger: options.logger,
    },
  );
}

/** Kernels without IPv6, or with it switched off, have no rules for it either. */
const families = (): readonly Family[] => (existsSync('/proc/net/if_inet6') ? ['IPv4', 'IPv6'] : ['IPv4']);

function isAtLeast(kernel: string): boolean {
  const [major = 0, minor = 0] = kernel.split('.').map((part) => Number.parseInt(part, 10));
  return major > leastKernel[0] || (major === leastKernel[0] && minor >= leastKernel[1]);
}
