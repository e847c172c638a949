import { spawnSync } from 'node:child_process';
import type { Flavour } from '@octoplane/node/drivers/iptables/tools.ts';
import type { Lab } from '../lab/lab.ts';
import type { Column } from './columns.ts';

/**
 * Another program's rules on the same node: a table, a chain, a set, in nf_tables or in the legacy xtables. A proxy that touches
 * them is caught by comparing what is there with what was put there. Like a pod network's they masquerade on the way out: the
 * kernel tracks connections, and goes on with the translations that it has begun, only as long as some rule asks for that
 * (nf_ct_netns_get), whoever's it is.
 */
const nftTables = `table inet neighbour-nat {
  chain postrouting { type nat hook postrouting priority 110; policy accept; oifname "uplink" masquerade; }
}
table ip neighbour {
  set allowed { type ipv4_addr; elements = { 192.0.2.1, 192.0.2.2 }; }
  map ports { type inet_service : inet_service; elements = { 8000 : 9000 }; }
  chain forward { type filter hook forward priority 10; policy accept; ip saddr @allowed accept; }
}`;

/** For each family. */
const legacyRules = `*nat
:NEIGHBOUR - [0:0]
-A POSTROUTING -o uplink -j NEIGHBOUR
-A NEIGHBOUR -j MASQUERADE
COMMIT
`;

type Command = readonly [command: string, args: readonly string[], input?: string];

const nft: readonly Command[] = [['nft', ['-f', '-'], nftTables]];
/** Kubelet's mark of the flavour that it uses, which the iptables driver follows. */
const legacy: readonly Command[] = [
  ['iptables-legacy-restore', ['-w', '--noflush'], legacyRules],
  ['ip6tables-legacy-restore', ['-w', '--noflush'], legacyRules],
  ['iptables-legacy', ['-w', '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT']],
];
const either = (flavour: Flavour): readonly Command[] => [
  [`iptables-${flavour}`, ['-w', '-t', 'filter', '-N', 'NEIGHBOUR']],
  [`iptables-${flavour}`, ['-w', '-t', 'filter', '-A', 'NEIGHBOUR', '-s', '192.0.2.3', '-j', 'ACCEPT']],
  ['ipset', ['create', 'neighbour', 'hash:ip']],
  ['ipset', ['add', 'neighbour', '192.0.2.4']],
];

export function putNeighbour(lab: Lab, node: string, { flavour }: Pick<Column, 'flavour'>): void {
  lab.within(node, () => {
    for (const [command, args, input] of [...(flavour === 'nft' ? nft : legacy), ...either(flavour)])
      mustRun(command, args, input);
  });
}

/** All of it, as text. */
export const neighbourText = (lab: Lab, node: string, { flavour }: Pick<Column, 'flavour'>): string =>
  lab.within(node, () =>
    [
      ...(flavour === 'nft' ? nftTexts() : legacyTexts()),
      mustRun(`iptables-${flavour}`, ['-w', '-t', 'filter', '-S', 'NEIGHBOUR']),
      mustRun('ipset', ['save', 'neighbour']),
    ].join('\n'),
  );

const nftTexts = (): readonly string[] => [
  mustRun('nft', ['-s', 'list', 'table', 'inet', 'neighbour-nat']),
  mustRun('nft', ['-s', 'list', 'table', 'ip', 'neighbour']),
];

const legacyTexts = (): readonly string[] =>
  ['iptables-legacy', 'ip6tables-legacy'].flatMap((command) => [
    mustRun(command, ['-w', '-t', 'nat', '-S', 'NEIGHBOUR']),
    ...mustRun(command, ['-w', '-t', 'nat', '-S', 'POSTROUTING'])
      .split('\n')
      .filter((line) => line.includes('NEIGHBOUR')),
  ]);

function mustRun(command: string, args: readonly string[], input = ''): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { input, encoding: 'utf8' });
  if (error) throw new Error(`${command} is needed: install Debian's package of that name`, { cause: error });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`);
  return stdout;
}
