import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Lab } from '../lab/lab.ts';

/** How an operator would look at what a driver keeps in the kernel, in a form that is the same for the same rules. */
export interface KernelText {
  /** Of the golden file, as editors know the language. */
  readonly extension: string;
  /** Every chain, map or rule of ours. */
  readonly read: (lab: Lab, node: string) => readonly string[];
}

/** A driver without a text that operators read has no golden files; its dump is compared as a rule set all the same. */
export const kernelTexts: ReadonlyMap<string, KernelText> = new Map<string, KernelText>([
  [
    'nftables',
    {
      extension: 'nft',
      read: (lab, node) => nftBlocks(run(lab, node, 'nft', '-s', 'list', 'table', 'inet', 'octoplane')),
    },
  ],
  [
    'iptables',
    {
      extension: 'iptables',
      read: (lab, node) => ['iptables', 'ip6tables'].flatMap((tool) => ownRules(tool, run(lab, node, `${tool}-save`))),
    },
  ],
]);

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

export const goldenFile = (dir: string, driver: string, family: string, { extension }: KernelText): string =>
  join(dir, 'golden', `${driver}.${family}.${extension}`);

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

/** Chains and rules of ours, without counters, each as the command that would make it. */
export function ownRules(tool: string, save: string): readonly string[] {
  let table = '';
  return save.split('\n').flatMap((line) => {
    if (line.startsWith('*')) table = line.slice(1);
    if (!line.includes('OCTO')) return [];
    const rule = line.startsWith(':') ? `-N ${line.slice(1).split(' ')[0]}` : line;
    return [`${tool} -t ${table} ${rule}\n`];
  });
}

const firstDifference = (expected: string, actual: string): string => {
  const [a, b] = [expected.split('\n'), actual.split('\n')];
  const at = a.findIndex((line, i) => line !== b[i]);
  const line = at < 0 ? a.length : at;
  return `line ${line + 1}:\n  golden: ${a[line] ?? '(ends)'}\n  kernel: ${b[line] ?? '(ends)'}`;
};
