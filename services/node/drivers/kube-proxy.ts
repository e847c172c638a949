import type { Logger } from 'pino';
import { run } from './programs.ts';

/**
 * What a kube-proxy has left in the kernel, recognised by its names and removed once ours is in place (P47): both would
 * answer for the same addresses otherwise, and whichever came first would win. Only kube-proxy's own objects are touched; chains
 * of the kubelet (KUBE-FIREWALL, KUBE-KUBELET-CANARY, KUBE-IPTABLES-HINT) and KUBE-MARK-*, which others jump to, stay.
 *
 * This happens once in the life of a node, so it goes through the users' own tools. What is not installed has left nothing.
 */
export async function removeKubeProxy(logger: Logger): Promise<void> {
  const removed = [...(await removeNftTables()), ...(await removeIptablesChains()), ...(await removeIpvsDevice())];
  if (removed.length > 0)
    logger.info(
      { removed },
      'rules of kube-proxy were removed; a kube-proxy that still runs would bring them back: stop it',
    );
}

async function removeNftTables(): Promise<readonly string[]> {
  const removed: string[] = [];
  const tables = (await run('nft', ['list', 'tables'])) ?? '';
  for (const family of ['ip', 'ip6']) {
    if (!tables.split('\n').includes(`table ${family} kube-proxy`)) continue;
    await run('nft', ['delete', 'table', family, 'kube-proxy']);
    removed.push(`nft table ${family} kube-proxy`);
  }
  return removed;
}

const saveCommands = ['iptables-nft', 'ip6tables-nft', 'iptables-legacy', 'ip6tables-legacy'] as const;

async function removeIptablesChains(): Promise<readonly string[]> {
  const removed: string[] = [];
  for (const command of saveCommands) {
    // Asking for a legacy table makes it; a machine without any has no kube-proxy in it.
    const restore = withoutKubeProxy((await run(`${command}-save`, [])) ?? '');
    if (restore === null) continue;
    await run(`${command}-restore`, ['--noflush', '-w', '10'], restore);
    removed.push(command.replace('-', ' '));
  }
  return removed;
}

const fixedChains = new Set(
  [
    'SERVICES',
    'EXTERNAL-SERVICES',
    'NODEPORTS',
    'NODE-PORT',
    'POSTROUTING',
    'FORWARD',
    'PROXY-FIREWALL',
    'PROXY-CANARY',
    'LOAD-BALANCER',
    'SOURCE-RANGES-FIREWALL',
    'IPVS-FILTER',
    'IPVS-OUT-FILTER',
  ].map((name) => `KUBE-${name}`),
);
const isKubeProxys = (chain: string): boolean =>
  fixedChains.has(chain) || /^KUBE-(SVC|SVL|SEP|EXT|FW|XLB)-/.test(chain);

/**
 * Input for `iptables-restore --noflush` that removes kube-proxy's chains and the rules that jump to them; null when `saved`,
 * the output of `iptables-save`, holds none. Pure.
 */
export function withoutKubeProxy(saved: string): string | null {
  const lines: string[] = [];
  let flushes: string[] = [];
  let unlinks: string[] = [];
  for (const line of saved.split('\n')) {
    const chain = /^:(\S+)/.exec(line)?.[1];
    const rule = /^-A (\S+) (?:.* )?-[jg] (\S+)/.exec(line);
    if (line.startsWith('*')) {
      flushes = [];
      unlinks = [];
      lines.push(line);
    } else if (chain !== undefined && isKubeProxys(chain)) {
      flushes.push(chain);
    } else if (rule && isKubeProxys(rule[2] ?? '') && !isKubeProxys(rule[1] ?? '')) {
      unlinks.push(line.replace(/^-A/, '-D'));
    } else if (line === 'COMMIT') {
      if (flushes.length === 0) lines.pop();
      // Naming a chain flushes it; once nothing refers to it, it can go.
      else
        lines.push(
          ...flushes.map((name) => `:${name} - [0:0]`),
          ...unlinks,
          ...flushes.map((name) => `-X ${name}`),
          'COMMIT',
        );
    }
  }
  return lines.length === 0 ? null : `${lines.join('\n')}\n`;
}

/** In IPVS mode kube-proxy holds every service address on a device of its own; without it the kernel takes none of them for local. */
async function removeIpvsDevice(): Promise<readonly string[]> {
  const links = (await run('ip', ['-brief', 'link', 'show', 'type', 'dummy'])) ?? '';
  if (!/^kube-ipvs0\b/m.test(links)) return [];
  await run('ip', ['link', 'delete', 'kube-ipvs0']);
  return ['device kube-ipvs0'];
}
