import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Lab } from '../lab/lab.ts';

/** How an operator would look at what a driver keeps in the kernel, in a form that is the same for the same rules. */
export interface KernelText {
  /** Of the golden file, as editors know the language. */
  readonly extension: string;
  readonly read: (lab: Lab, node: string) => string;
}

/** A driver without a text that operators read has no golden files; its dump is compared as a rule set all the same. */
export const kernelTexts: ReadonlyMap<string, KernelText> = new Map<string, KernelText>([
  [
    'nftables',
    {
      extension: 'nft',
      read: (lab, node) => dropEmpty(sortElements(run(lab, node, 'nft', '-s', 'list', 'table', 'inet', 'octoplane'))),
    },
  ],
  [
    'iptables',
    {
      extension: 'iptables',
      read: (lab, node) => ['iptables-save', 'ip6tables-save'].map((tool) => ownRules(run(lab, node, tool))).join(''),
    },
  ],
]);

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

/** nft lists the elements of a hash in the order of a seed that changes with every boot: one to a line, sorted. */
export function sortElements(listing: string): string {
  return listing.replaceAll(/^(\t+)elements = \{([^}]*)\}$/gm, (_, indent: string, body: string) => {
    const elements = body
      .split(',')
      .map((element) => element.trim().replaceAll(/\s+/g, ' '))
      .sort();
    return `${indent}elements = {\n${elements.map((each) => `${indent}\t${each},\n`).join('')}${indent}}`;
  });
}

/** Sets and maps that nothing is in say nothing about the story. */
export const dropEmpty = (listing: string): string =>
  listing.replaceAll(/^\t(?:set|map) [^{}]*\{\n(?:(?!\t\}|.*elements = \{).*\n)*\t\}\n\n/gm, '');

/** Chains and rules of ours, without counters. */
export const ownRules = (save: string): string =>
  save
    .split('\n')
    .filter((line) => line.startsWith('*') || line.includes('OCTO'))
    .map((line) => `${line.replace(/ \[\d+:\d+\]$/, '')}\n`)
    .join('');

const firstDifference = (expected: string, actual: string): string => {
  const [a, b] = [expected.split('\n'), actual.split('\n')];
  const at = a.findIndex((line, i) => line !== b[i]);
  const line = at < 0 ? a.length : at;
  return `line ${line + 1}:\n  golden: ${a[line] ?? '(ends)'}\n  kernel: ${b[line] ?? '(ends)'}`;
};
