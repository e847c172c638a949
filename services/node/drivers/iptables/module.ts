import type { Family } from '@octoplane/model/keys.ts';
import { type Driver, DriverError, type DriverModule, type DriverOptions, type Probe } from '../driver.ts';
import { readNodeAddresses } from './addresses.ts';
import { IptablesDriver } from './driver.ts';
import { chooseFlavour, findHoldings, type Holdings } from './flavour.ts';
import { families } from './frontends.ts';
import { settingsOf } from './settings.ts';
import { type Flavour, type Programs, processRunner, type Runner } from './tools.ts';

export const iptables: DriverModule = {
  name: 'iptables',
  flows: 'netfilter',
  probe: (options) => probe(options, processRunner()),
  open: (options) => open(options, processRunner()),
};

/** What a test gives to run in a network namespace and on a flavour of its choice. */
export interface OpenOptions {
  /** Default: as chooseFlavour finds. */
  readonly flavour?: Flavour;
}

export async function probe(_options: DriverOptions, runner: Runner): Promise<Probe> {
  const { found, problems } = await findHoldings(runner);
  const programs = chooseFlavour(found);
  if (programs) return { t: 'able', details: details(found, programs) };
  if (problems.some((problem) => /permission denied/i.test(problem)))
    return { t: 'unable', lacks: ['iptables cannot be used without CAP_NET_ADMIN: run as root, or grant it'] };
  if (problems.length > 0)
    return { t: 'unable', lacks: problems.map((problem) => `iptables does not work: ${problem}`) };
  return { t: 'unable', lacks: ['there is no iptables: install the package iptables'] };
}

export async function open(options: DriverOptions, runner: Runner, chosen: OpenOptions = {}): Promise<Driver> {
  const { found, problems } = await findHoldings(runner);
  const programs = chooseFlavour(
    chosen.flavour === undefined ? found : found.filter(({ programs }) => programs.flavour === chosen.flavour),
  );
  if (programs === null)
    throw new DriverError(`iptables cannot be used: ${problems.join('; ') || 'install the package iptables'}`);
  const usable = await usableFamilies(runner, programs);
  for (const family of families) {
    if (!usable.includes(family))
      options.logger.warn(
        { family },
        'this kernel has no iptables nat table for the family; its addresses are not served',
      );
  }
  options.logger.info({ flavour: programs.flavour, families: usable }, 'iptables opened');
  return new IptablesDriver({
    driver: options,
    runner,
    programs,
    families: usable,
    leftovers: found.flatMap((holdings) =>
      holdings.ours && holdings.programs !== programs ? [holdings.programs] : [],
    ),
    settings: (family) => settingsOf(family, options, readNodeAddresses()),
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
