import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Flavour } from '@octoplane/node/drivers/iptables/tools.ts';
import type { Lab } from '../lab/lab.ts';
import type { ColumnName } from './columns.ts';
import { ipvsText } from './ipvs-text.ts';

/** How an operator would look at what a driver keeps in the kernel, in a form that is the same for the same rules. */
export interface KernelText {
  /** Of the golden file; both flavours of iptables have the same. */
  readonly name: string;
  /** Of the golden file, as editors know the language. */
  readonly extension: string;
  /** Every chain, map or rule of ours. */
  readonly read: (lab: Lab, node: string) => readonly string[];
}

const iptablesText = (flavour: Flavour): KernelText => ({
  name: 'iptables',
  extension: 'iptables',
  read: (lab, node) =>
    ['iptables', 'ip6tables'].flatMap((tool) => ownRules(tool, run(lab, node, `${tool}-${flavour}-save`))),
});

/** A driver without a text that operators read has no golden files; its dump is compared as a rule set all the same. */
export const kernelTexts: Readonly<Record<ColumnName, KernelText | null>> = {
  ebpf: null,
  nftables: {
    name: 'nftables',
    extension: 'nft',
    read: (lab, node) => nftBlocks(run(lab, node, 'nft', '-s', 'list', 'table', 'inet', 'octoplane')),
  },
  ipvs: {
    name: 'ipvs',
    extension: 'ipvs',
    read: (lab, node) => [
      ...ipvsText({
        services: run(lab, node, 'ipvsadm', '-Sn'),
        sets: run(lab, node, 'ipset', 'save'),
        routes: { '-4': serviceRoutes(lab, node, '-4'), '-6': serviceRoutes(lab, node, '-6') },
      }),
      ...iptablesText('legacy').read(lab, node),
    ],
  },
  'iptables-nft': iptablesText('nft'),
  'iptables-legacy': iptablesText('legacy'),
};

const serviceRoutes = (lab: Lab, node: string, family: string): string =>
  run(lab, node, 'ip', family, 'route', 'show', 'table', 'local', 'proto', '79');

/** What a story adds to the frame that is there without any Service. */
export function beyond(frame: readonly string[], now: readonly string[]): string {
  const known = new Set(frame);
  return now.filter((part) => !known.has(part)).join('');
}

/** Compares with the golden file, or writes it when UPDATE_GOLDEN=1. Resolves to what differs. */
export function compareGolden(file: string, actual: string): string[] {
  if (process.env['UPDATE_GOLDEN'] === '1') {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, actual);
    return [];
  }
  if (!existsSync(file)) return [`${file} is missing; UPDATE_GOLDEN=1 writes it`];
  const expected = readFileSync(file, 'utf8');
  return expected === actual
    ? []
    : [`${file} differs (UPDATE_GOLDEN=1 rewrites it):\n${firstDifference(expected, actual)}`];
}

export const goldenFile = (dir: string, family: string, { name, extension }: KernelText): string =>
  join(dir, 'golden', `${name}.${family}.${extension}`);

function run(lab: Lab, place: string, command: string, ...args: readonly string[]): string {
  const { status, stdout, stderr, error } = lab.within(place, () => spawnSync(command, args, { encoding: 'utf8' }));
  if (error) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} on ${place}: ${stderr}`);
  return stdout;
}

/**
 * The sets, maps and chains of a table; sets and maps that are empty say nothing and are left out. nft lists the elements of a
 * hash in the order of a seed that changes with every boot: here they are one to a line, sorted.
 */
export function nftBlocks(listing: string): readonly string[] {
  const blocks = listing.matchAll(/^\t(set|map|chain) [^\n]*\{\n(?:\t\t[^\n]*\n)*\t\}\n/gm);
  return [...blocks]
    .filter(([block, kind]) => kind === 'chain' || block.includes('elements = {'))
    .map(([block]) => `${sortElements(block).replaceAll(/^\t/gm, '')}\n`);
}

const sortElements = (block: string): string =>
  block.replaceAll(/^(\t+)elements = \{([^}]*)\}$/gm, (_, indent: string, body: string) => {
    const elements = body
      .split(',')
      .map((element) => element.trim().replaceAll(/\s+/g, ' '))
      .sort();
    return `${indent}elements = {\n${elements.map((each) => `${indent}\t${each},\n`).join('')}${indent}}`;
  });

/**
 * Chains and rules of ours, without counters, each as the command that would make it. The legacy flavour prints chains in the
 * order of their making: here they are sorted, and rules stay in the order of their chain.
 */
export function ownRules(tool: string, save: string): readonly string[] {
  let table = '';
  const lines = save.split('\n').flatMap((line) => {
    if (line.startsWith('*')) table = line.slice(1);
    if (!/\bOCTO(?:IPVS)?-/.test(line)) return [];
    const rule = line.startsWith(':') ? `-N ${line.slice(1).split(' ')[0]}` : line;
    const [verb = '', chain = ''] = rule.split(' ');
    // Made before filled, and the kernel's own chains before ours, in the order that packets see them.
    const place = verb === '-N' ? 0 : chain.startsWith('OCTO') ? 2 : 1;
    return [{ sortedBy: `${table} ${place} ${place === 1 ? '' : chain}`, text: `${tool} -t ${table} ${rule}\n` }];
  });
  return lines.toSorted((a, b) => compare(a.sortedBy, b.sortedBy)).map(({ text }) => text);
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

const firstDifference = (expected: string, actual: string): string => {
  const [a, b] = [expected.split('\n'), actual.split('\n')];
  const at = a.findIndex((line, i) => line !== b[i]);
  const line = at < 0 ? a.length : at;
  return `line ${line + 1}:\n  golden: ${a[line] ?? '(ends)'}\n  kernel: ${b[line] ?? '(ends)'}`;
};
