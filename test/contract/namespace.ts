import { spawnSync } from 'node:child_process';
import koffi from 'koffi';

const CLONE_NEWNET = 0x4000_0000;

const libc = koffi.load('libc.so.6');
const unshare: (flags: number) => number = libc.func('int unshare(int flags)');

/**
 * Moves this process's main thread, and with it every socket that it opens and every program that it starts, into a network
 * namespace of its own, with loopback up. The kernel removes the namespace with the process, however that ends. Threads that exist
 * already stay behind: nothing here may open sockets on one.
 */
export function enterOwnNetwork(): void {
  if (unshare(CLONE_NEWNET) !== 0)
    throw new Error(`unshare(CLONE_NEWNET): errno ${koffi.errno()}: run the tests as root`);
  run('ip', 'link', 'set', 'lo', 'up');
}

/** Runs a program to its end. @throws Error with what it wrote to stderr */
export function run(program: string, ...args: readonly string[]): string {
  const done = spawnSync(program, args, { encoding: 'utf8' });
  if (done.error) throw done.error;
  if (done.status !== 0) throw new Error(`${program} ${args.join(' ')}: ${done.stderr}`);
  return done.stdout;
}

/** The same with text on its stdin. */
export function feed(input: string, program: string, ...args: readonly string[]): string {
  const done = spawnSync(program, args, { encoding: 'utf8', input });
  if (done.error) throw done.error;
  if (done.status !== 0) throw new Error(`${program} ${args.join(' ')}: ${done.stderr}`);
  return done.stdout;
}
