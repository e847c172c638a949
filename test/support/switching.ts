import { spawnSync } from 'node:child_process';
import type { DriverName } from '@octoplane/node/drivers/driver.ts';
import { allDrivers } from './scenarios/drivers.ts';

/** A driver to change to; iptables in one of its flavours. */
export interface Flavoured {
  readonly name: string;
  readonly driver: DriverName;
  readonly flavour: 'nft' | 'legacy' | null;
}

export interface Step {
  readonly from: Flavoured;
  readonly to: Flavoured;
}

/** Those that this machine can run. */
export async function flavouredDrivers(): Promise<readonly Flavoured[]> {
  const able = (await allDrivers()).filter(({ lacks }) => lacks === null);
  return able.flatMap(({ name }): Flavoured[] =>
    name === 'iptables'
      ? (['nft', 'legacy'] as const).map((flavour) => ({ name: `${name}-${flavour}`, driver: name, flavour }))
      : [{ name, driver: name, flavour: null }],
  );
}

/**
 * A way through every ordered pair, each step starting where the one before ended (an Eulerian circuit). A driver does not take
 * turns with itself: of iptables the flavour in use stays.
 */
export function tour(drivers: readonly Flavoured[]): readonly Step[] {
  const open = new Map(drivers.map((from) => [from, drivers.filter(({ driver }) => driver !== from.driver)]));
  const way: Flavoured[] = [];
  const visit = (from: Flavoured): void => {
    for (let to = open.get(from)?.pop(); to !== undefined; to = open.get(from)?.pop()) visit(to);
    way.unshift(from);
  };
  const [first] = drivers;
  if (first !== undefined) visit(first);
  return way.slice(1).map((to, i) => ({ from: way[i] as Flavoured, to }));
}

/** In the network of a node: makes the flavour the one that the driver chooses, by the chain that kubelet puts there. */
export function useFlavour({ flavour }: Flavoured): void {
  for (const each of ['nft', 'legacy'] as const) {
    const chain = ['-w', '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT'];
    spawnSync(`iptables-${each}`, ['-w', '-t', 'mangle', '-X', 'KUBE-IPTABLES-HINT']);
    if (each !== flavour) continue;
    const { status, stderr } = spawnSync(`iptables-${each}`, chain, { encoding: 'utf8' });
    if (status !== 0) throw new Error(`iptables-${each} ${chain.join(' ')}: ${stderr}`);
  }
}
