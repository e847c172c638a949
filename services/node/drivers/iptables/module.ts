import type { Family } from '@octoplane/model/keys.ts';
import { type Capability, needing } from '../capabilities.ts';
import { type Driver, DriverError, type DriverModule, type DriverOptions, type Probe } from '../driver.ts';
import { readNodeAddresses } from './addresses.ts';
import { IptablesDriver } from './driver.ts';
import { chooseFlavour, findHoldings, type Holdings } from './flavour.ts';
import { families } from './frontends.ts';
import { KernelEvents } from './kernel-events.ts';
import { settingsOf } from './settings.ts';
import { type Flavour, type Programs, processRunner, type Runner } from './tools.ts';

/** And NET_RAW where rules are kept by the legacy flavour, whose programs open a raw socket. */
const capabilities: readonly Capability[] = ['NET_ADMIN'];

export const iptables: DriverModule = {
  name: 'iptables',
  flows: 'netfilter',
  capabilities,
  probe: needing(capabilities, (options) => probe(options, processRunner())),
  open: (options) => openHere(options),
};

/** In this process's network namespace. */
export async function openHere(options: DriverOptions, flavour: Flavour | null = null): Promise<Driver> {
  const programs = await findPrograms(processRunner(), flavour);
  const events = programs.chosen.flavour === 'nft' ? new KernelEvents() : null;
  return assemble(options, { runner: processRunner((pid) => events?.own(pid)), events, ...programs });
}

/** Wherever the runner runs programs, and without what the kernel tells about others. */
export async function openElsewhere(options: DriverOptions, runner: Runner, flavour: Flavour | null): Promise<Driver> {
  return assemble(options, { runner, events: null, ...(await findPrograms(runner, flavour)) });
}

export async function probe(_options: DriverOptions, runner: Runner): Promise<Probe> {
  const { found, problems } = await findHoldings(runner);
  const programs = chooseFlavour(found);
  if (programs) return { t: 'able', details: details(found, programs) };
  if (problems.some((problem) => /permission denied/i.test(problem)))
    return {
      t: 'unable',
      lacks: ['iptables is refused by the kernel: grant CAP_NET_ADMIN, and CAP_NET_RAW for the legacy flavour'],
    };
  if (problems.length > 0)
    return { t: 'unable', lacks: problems.map((problem) => `iptables does not work: ${problem}`) };
  return { t: 'unable', lacks: ['there is no iptables: install the package iptables'] };
}

interface FoundPrograms {
  readonly chosen: Programs;
  /** Other flavours that hold chains of ours. */
  readonly leftovers: readonly Programs[];
}

/** @throws DriverError */
async function findPrograms(runner: Runner, flavour: Flavour | null): Promise<FoundPrograms> {
  const { found, problems } = await findHoldings(runner);
  const chosen = chooseFlavour(found.filter(({ programs }) => flavour === null || programs.flavour === flavour));
  if (chosen === null)
    throw new DriverError(`iptables cannot be used: ${problems.join('; ') || 'install the package iptables'}`);
  const leftovers = found.flatMap(({ ours, programs }) => (ours && programs !== chosen ? [programs] : []));
  return { chosen, leftovers };
}

async function assemble(
  options: DriverOptions,
  parts: FoundPrograms & { readonly runner: Runner; readonly events: KernelEvents | null },
): Promise<Driver> {
  const { runner, events, chosen, leftovers } = parts;
  const usable = await usableFamilies(runner, chosen);
  for (const family of families) {
    if (!usable.includes(family))
      options.logger.warn(
        { family },
        'this kernel has no iptables nat table for the family; its addresses are not served',
      );
  }
  options.logger.info({ flavour: chosen.flavour, families: usable }, 'iptables opened');
  return new IptablesDriver({
    driver: options,
    runner,
    programs: chosen,
    families: usable,
    leftovers,
    settings: (family) => settingsOf(family, options, readNodeAddresses()),
    events,
  });
}

/** A kernel may be without IPv6, or without its nat table. */
async function usableFamilies(runner: Runner, programs: Programs): Promise<readonly Family[]> {
  const usable: Family[] = [];
  for (const family of families) {
    const outcome = await runner.run(programs.save[family], ['-t', 'nat']);
    if (outcome.t === 'done') usable.push(family);
  }
  return usable;
}

function details(found: readonly Holdings[], chosen: Programs): readonly string[] {
  const others = found.filter(({ programs }) => programs !== chosen);
  return [
    `iptables on ${chosen.flavour === 'nft' ? 'nf_tables' : 'the legacy xtables calls'}`,
    ...others.map(({ programs, rules }) => `the ${programs.flavour} flavour is installed too and holds ${rules} rules`),
  ];
}
