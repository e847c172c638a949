import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { guestIsLacking, kernelBinary, provideModules } from './modules.ts';

export interface GuestJob {
  /** Program and arguments. It sees the files of this machine, read-only; /run is its own, and its TMPDIR lies there. */
  readonly command: readonly [string, ...string[]];
  /** Default: where the caller is. */
  readonly cwd?: string;
  /** On top of the caller's PATH. */
  readonly env?: Readonly<Record<string, string>>;
  /** Directories of this machine that it may write to. Default: none. */
  readonly writable?: readonly string[];
  /** Default 2048; taken from the host only as it is used. */
  readonly memoryMib?: number;
  /** Which of this machine's processors to run on, counted from the last one that we may use. Default 0. */
  readonly processor?: number;
  /** What the program prints, standard output and error together, and the kernel's complaints. */
  readonly onOutput: (text: string) => void;
  /** Ends the guest at once. Give it a timeout: a kernel that hangs does not end by itself. */
  readonly signal: AbortSignal;
  /** Called with the job's directory after the program has ended: it may have written files to /run/job. */
  readonly collect?: (dir: string) => void;
}

/**
 * Runs one program on another kernel: user-mode Linux, an ordinary process that boots in seconds, has IPVS and ipset (which the
 * machine's own kernel may lack), and takes everything it does to the grave.
 * @returns the program's exit code.
 * @throws Error when the guest did not get so far as to tell one.
 */
export async function runInGuest(job: GuestJob): Promise<number> {
  const lacking = guestIsLacking();
  if (lacking !== null) throw new Error(`no guest can be started: ${lacking}`);
  job.signal.throwIfAborted();
  const dir = mkdtempSync(join(tmpdir(), 'octoplane-uml-'));
  try {
    provideModules(dir, '/run/job');
    writeExecutable(join(dir, 'run'), script(job));
    const writable = [...(job.writable ?? []), ...(compiled === undefined ? [] : [compiled])];
    for (const path of writable) mkdirSync(path, { recursive: true });
    writeFileSync(join(dir, 'writable'), writable.map((path) => `${path}\n`).join(''));
    await boot(dir, job);
    const exit = join(dir, 'exit');
    if (!existsSync(exit)) throw new Error('the guest ended before its program did: see its output');
    job.collect?.(dir);
    return Number(readFileSync(exit, 'utf8'));
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** What Node has compiled on either side is there for both. */
const compiled = process.env['NODE_COMPILE_CACHE'];

const init = fileURLToPath(new URL('init.sh', import.meta.url));

function boot(dir: string, { memoryMib = 2048, processor = 0, onOutput, signal }: GuestJob): Promise<void> {
  const args = [`mem=${memoryMib}M`, 'root=/dev/root', 'rootfstype=hostfs', 'rootflags=/', 'ro', `init=${init}`];
  args.push(`JOB=${dir}`, 'con=null', 'con0=fd:0,fd:1', 'loglevel=1', 'panic=-1');
  // In a process group of its own: the guest's processes are processes of the host, and all end with the group. On one
  // processor: its kernel and its processes take turns at every system call, which between two processors takes four times as
  // long. Before others: whoever gives way at every system call gets little where many run. HOME is where it keeps its control
  // socket.
  const command = ['-n', '-10', 'taskset', '-c', `${processorFor(processor)}`, kernelBinary, ...args];
  const guest = spawn('nice', command, {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, HOME: dir },
  });
  guest.stdout.setEncoding('utf8').on('data', onOutput);
  guest.stderr.setEncoding('utf8').on('data', onOutput);
  return new Promise((resolve, reject) => {
    const end = () => {
      if (guest.pid !== undefined) process.kill(-guest.pid, 'SIGKILL');
    };
    signal.addEventListener('abort', end, { once: true });
    guest.once('error', reject);
    guest.once('close', () => {
      signal.removeEventListener('abort', end);
      if (signal.aborted) reject(signal.reason);
      else resolve();
    });
  });
}

/** "Cpus_allowed_list: 0-1,4" */
function processorFor(index: number): number {
  const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  const allowed = list.split(',').flatMap((range) => {
    const [first = 0, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
  return allowed[allowed.length - 1 - (index % allowed.length)] ?? 0;
}

function script({ command, cwd = process.cwd(), env = {} }: GuestJob): string {
  const known = {
    PATH: process.env['PATH'] ?? '',
    OCTOPLANE_IN_GUEST: '1',
    ...(compiled !== undefined && { NODE_COMPILE_CACHE: compiled }),
  };
  const exports = Object.entries({ ...known, ...env }).map(([name, value]) => `export ${name}=${quoted(value)}`);
  return `#!/bin/sh\n${exports.join('\n')}\ncd ${quoted(cwd)} && exec ${command.map(quoted).join(' ')} 2>&1\n`;
}

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

function writeExecutable(path: string, text: string): void {
  writeFileSync(path, text);
  chmodSync(path, 0o755);
}
