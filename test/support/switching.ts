import { spawnSync } from 'node:child_process';
import { type Column, columns, lackOf } from './scenarios/columns.ts';

/** A change of a node's driver; iptables in one of its flavours. */
export interface Step {
  readonly from: Column;
  readonly to: Column;
}

/** Those that this kernel can run. A guest that has IPVS finds it here, and `tour` makes its pairs. */
export async function ableColumns(): Promise<readonly Column[]> {
  const able: Column[] = [];
  for (const column of columns) if ((await lackOf(column)) === null) able.push(column);
  return able;
}

/**
 * A way through every ordered pair, each step starting where the one before ended (an Eulerian circuit). A driver does not take
 * turns with itself: of iptables the flavour in use stays.
 */
export function tour(places: readonly Column[]): readonly Step[] {
  const open = new Map(places.map((from) => [from, places.filter(({ driver }) => driver !== from.driver)]));
  const way: Column[] = [];
  const visit = (from: Column): void => {
    for (let to = open.get(from)?.pop(); to !== undefined; to = open.get(from)?.pop()) visit(to);
    way.unshift(from);
  };
  const [first] = places;
  if (first !== undefined) visit(first);
  return way.slice(1).map((to, i) => ({ from: way[i] as Column, to }));
}

/** In the network of a node: makes the flavour the one that the driver chooses, by the chain that kubelet puts there. */
export function useFlavour({ flavour }: Column): void {
  for (const each of ['nft', 'legacy'] as const) {
    const chain = ['-w', '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT'];
    spawnSync(`iptables-${each}`, ['-w', '-t', 'mangle', '-X', 'KUBE-IPTABLES-HINT']);
    if (each !== flavour) continue;
    const { status, stderr } = spawnSync(`iptables-${each}`, chain, { encoding: 'utf8' });
    if (status !== 0) throw new Error(`iptables-${each} ${chain.join(' ')}: ${stderr}`);
  }
}
