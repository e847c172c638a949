import { spawn } from 'node:child_process';
import type { Family } from '@octoplane/model/keys.ts';
import { kernelHasNftables } from './flavour.ts';
import { chainPrefix, type TableRules } from './rules.ts';

export type Flavour = 'nft' | 'legacy';

/** How long to wait for another program that holds the lock of iptables, in seconds. */
const lockWaitSeconds = 30;

export class IptablesError extends Error {
  override readonly name = 'IptablesError';
}

/** The few rules of this driver, through the iptables programs: they are put in place once and compared at every full sync. */
export class Iptables {
  readonly flavour: Flavour;

  constructor(flavour: Flavour) {
    this.flavour = flavour;
  }

  /**
   * The flavour that works here and already has rules, since rules of both would be traversed one after the other; the nft one
   * when neither has any.
   * @throws IptablesError when neither works; NetlinkError EPERM.
   */
  static async detect(): Promise<Iptables> {
    const failures: string[] = [];
    const working: { flavour: Flavour; rules: number }[] = [];
    const candidates: readonly Flavour[] = kernelHasNftables() ? ['nft', 'legacy'] : ['legacy'];
    for (const flavour of candidates) {
      try {
        const saved = await run(program('IPv4', flavour, 'save'), [], '');
        working.push({ flavour, rules: saved.split('\n').filter((line) => line.startsWith('-A')).length });
      } catch (error) {
        if (!(error instanceof IptablesError)) throw error;
        failures.push(error.message);
      }
    }
    const [first, second] = working;
    if (!first) throw new IptablesError(failures.join('; '));
    return new Iptables(second && second.rules > 0 && first.rules === 0 ? second.flavour : first.flavour);
  }

  /**
   * Unless all rules are there, whatever was in our chains is replaced, in one transaction for each table; nothing else is touched.
   * Returns whether that was necessary.
   */
  async ensure(family: Family, rules: readonly TableRules[]): Promise<boolean> {
    const found = parseSaved(await this.#save(family));
    if (areHeld(rules, found)) return false;
    await this.#load(family, rules.map((wanted) => restoreText(wanted, found.get(wanted.table) ?? [])).join(''));
    return true;
  }

  /** Absent is no error. */
  async remove(family: Family): Promise<void> {
    const found = parseSaved(await this.#save(family));
    const text = [...found].map(([table, lines]) => removeText(table, lines)).join('');
    if (text !== '') await this.#load(family, text);
  }

  #save(family: Family): Promise<string> {
    return run(program(family, this.flavour, 'save'), [], '');
  }

  async #load(family: Family, text: string): Promise<void> {
    await run(program(family, this.flavour, 'restore'), ['--noflush', '-w', `${lockWaitSeconds}`], text);
  }
}

/** Lines of iptables-save that concern us, by table: ":CHAIN" of our chains, and rules in them and to them. */
export function parseSaved(text: string): Map<string, string[]> {
  const found = new Map<string, string[]>();
  let table = '';
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1);
    if (!line.includes(chainPrefix)) continue;
    const lines = found.get(table);
    if (lines) lines.push(line);
    else found.set(table, [line]);
  }
  return found;
}

/** Are all rules there, and nothing else in our chains? Rules are counted and the version of their text compared, not their words. */
export function areHeld(rules: readonly TableRules[], found: ReadonlyMap<string, readonly string[]>): boolean {
  const comment = commentOf(rules);
  return rules.every(({ table, chains, jumps: wanted }) => {
    const lines = found.get(table) ?? [];
    const jumps = lines.filter(isJump);
    return (
      jumps.length === wanted.length &&
      jumps.every((line) => line.includes(comment)) &&
      [...chains].every(([chain, expected]) => lines.filter((line) => isIn(line, chain)).length === expected.length)
    );
  });
}

/** Input of iptables-restore: our chains anew, and our jumps before all other rules. */
export function restoreText({ table, chains, jumps }: TableRules, found: readonly string[]): string {
  const lines = [`*${table}`, ...[...chains.keys()].map((chain) => `:${chain} - [0:0]`)];
  for (const [chain, rules] of chains) for (const rule of rules) lines.push(`-A ${chain} ${rule}`);
  lines.push(...found.filter(isJump).map(asDeletion));
  lines.push(...jumps.map(({ chain, rule }) => `-I ${chain} 1 ${rule}`), ...deadChains(found, chains), 'COMMIT', '');
  return lines.join('\n');
}

export function removeText(table: string, found: readonly string[]): string {
  const chains = chainsIn(found);
  return [
    `*${table}`,
    ...found.filter(isJump).map(asDeletion),
    ...chains.map((chain) => `-F ${chain}`),
    ...chains.map((chain) => `-X ${chain}`),
    'COMMIT',
    '',
  ].join('\n');
}

/** Of another version of ours, that this one does not have. */
function deadChains(found: readonly string[], wanted: ReadonlyMap<string, unknown>): string[] {
  const dead = chainsIn(found).filter((chain) => !wanted.has(chain));
  return [...dead.map((chain) => `-F ${chain}`), ...dead.map((chain) => `-X ${chain}`)];
}

const chainsIn = (found: readonly string[]): string[] =>
  found.filter((line) => line.startsWith(`:${chainPrefix}`)).map((line) => line.slice(1).split(' ')[0] ?? '');

const isIn = (line: string, chain: string): boolean => line.startsWith(`-A ${chain} `);
/** In a chain that belongs to everybody. */
const isJump = (line: string): boolean => line.startsWith('-A ') && !line.startsWith(`-A ${chainPrefix}`);
const asDeletion = (line: string): string => `-D${line.slice(2)}`;

const commentOf = (rules: readonly TableRules[]): string =>
  /"(octoplane [0-9a-f]+)"/.exec(rules[0]?.jumps[0]?.rule ?? '')?.[1] ?? '';

const program = (family: Family, flavour: Flavour, verb: 'save' | 'restore'): string =>
  `${family === 'IPv4' ? 'iptables' : 'ip6tables'}-${flavour}-${verb}`;

function run(command: string, args: readonly string[], input: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.once('error', (cause) =>
      reject(new IptablesError(`${command} cannot be run (package iptables): ${cause.message}`, { cause })),
    );
    child.once('close', (code) => {
      if (code === 0) resolve(stdout);
      else reject(new IptablesError(`${[command, ...args].join(' ')} ended with ${code}: ${stderr.trim()}`));
    });
    // A program that ends without reading what it is given says why on stderr.
    child.stdin.once('error', () => child.stdin.destroy());
    child.stdin.end(input);
  });
}
