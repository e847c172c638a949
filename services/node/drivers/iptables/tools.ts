import { spawn } from 'node:child_process';
import type { Family } from '@octoplane/model/keys.ts';

export const flavours = ['nft', 'legacy'] as const;
/** iptables over nf_tables, or over the older xtables calls. Both can be installed, and both can hold rules at once. */
export type Flavour = (typeof flavours)[number];

/** Runs the iptables programs. */
export interface Runner {
  run(command: string, args: readonly string[], stdin?: string): Promise<Outcome>;
}

export type Outcome =
  | { readonly t: 'done'; readonly stdout: string; readonly stderr: string }
  | { readonly t: 'failed'; readonly code: number | null; readonly stdout: string; readonly stderr: string }
  /** There is no such program. */
  | { readonly t: 'absent'; readonly command: string };

export const processRunner = (onStart: (pid: number) => void = () => undefined): Runner => ({
  run(command, args, stdin = '') {
    return new Promise((resolve, reject) => {
      const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
      if (child.pid !== undefined) onStart(child.pid);
      const stdout: Buffer[] = [];
      const stderr: Buffer[] = [];
      child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
      child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
      // A program that fails early closes its end while we write; its exit code and stderr say why.
      child.stdin.on('error', (error: NodeJS.ErrnoException) => {
        if (error.code !== 'EPIPE') reject(error);
      });
      child.on('error', (error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') resolve({ t: 'absent', command });
        else reject(error);
      });
      child.on('close', (code) => {
        const printed = { stdout: text(stdout), stderr: text(stderr) };
        resolve(code === 0 ? { t: 'done', ...printed } : { t: 'failed', code, ...printed });
      });
      child.stdin.end(stdin);
    });
  },
});

/** Rules are ASCII: one byte a character keeps a dump of 100,000 rules half as large. */
const text = (chunks: readonly Buffer[]): string => Buffer.concat(chunks).toString('latin1');

export interface Programs {
  readonly flavour: Flavour;
  readonly restore: Record<Family, string>;
  readonly save: Record<Family, string>;
}

/** The names under which Debian, Fedora and Alpine install both flavours side by side. */
export const programsOf = (flavour: Flavour): Programs => ({
  flavour,
  restore: { IPv4: `iptables-${flavour}-restore`, IPv6: `ip6tables-${flavour}-restore` },
  save: { IPv4: `iptables-${flavour}-save`, IPv6: `ip6tables-${flavour}-save` },
});

/** Where there is only one, under the plain names. */
export const plainPrograms = (flavour: Flavour): Programs => ({
  flavour,
  restore: { IPv4: 'iptables-restore', IPv6: 'ip6tables-restore' },
  save: { IPv4: 'iptables-save', IPv6: 'ip6tables-save' },
});

/** A program of iptables said no. */
export class IptablesError extends Error {
  override readonly name = 'IptablesError';
  readonly command: string;
  /** Line of the input at fault, from 1; null when it did not say. */
  readonly line: number | null;
  constructor(command: string, code: number | null, stderr: string) {
    const said = stderr.replaceAll(/^#.*\n?|^Try `.*\n?/gm, '').trim();
    super(`${command} ended with ${code ?? 'a signal'}: ${said || 'it said nothing'}`);
    this.command = command;
    const line = /\bline:? ([0-9]+)/.exec(said)?.[1];
    this.line = line === undefined ? null : Number(line);
  }
}

/** The legacy flavour's lock is waited for in turns of this length, so that a long wait can be told. */
const lockTurnSeconds = 5;

/**
 * `iptables-restore --noflush`. Another program's lock is waited for as long as it is held; `onLockWait` hears of every turn
 * waited in vain.
 * @throws IptablesError
 */
export async function restore(
  runner: Runner,
  command: string,
  input: string,
  onLockWait: (command: string, turns: number) => void,
): Promise<string> {
  for (let turns = 1; ; turns++) {
    const outcome = await runner.run(command, ['--noflush', '-w', String(lockTurnSeconds)], input);
    if (outcome.t === 'done') return outcome.stdout;
    if (outcome.t === 'absent') throw new IptablesError(command, null, 'there is no such program');
    if (!/holding the xtables lock/.test(outcome.stderr))
      throw new IptablesError(command, outcome.code, outcome.stderr);
    onLockWait(command, turns);
  }
}

/**
 * `iptables-save -t TABLE`. Takes no lock: the kernel hands out a table as of one moment.
 * @throws IptablesError
 */
export async function save(runner: Runner, command: string, table: string): Promise<string> {
  const outcome = await runner.run(command, ['-t', table]);
  if (outcome.t === 'done') return outcome.stdout;
  if (outcome.t === 'absent') throw new IptablesError(command, null, 'there is no such program');
  // nf_tables makes tables when they are first used.
  if (/does not exist/.test(outcome.stderr)) return '';
  throw new IptablesError(command, outcome.code, outcome.stderr);
}
