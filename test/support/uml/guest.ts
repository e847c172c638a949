import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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
  /** Default 2048; taken from the host only as it is used. */
  readonly memoryMib?: number;
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
    await boot(dir, job);
    const exit = join(dir, 'exit');
    if (!existsSync(exit)) throw new Error('the guest ended before its program did: see its output');
    job.collect?.(dir);
    return Number(readFileSync(exit, 'utf8'));
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const init = fileURLToPath(new URL('init.sh', import.meta.url));

function boot(dir: string, { memoryMib = 2048, onOutput, signal }: GuestJob): Promise<void> {
  const args = [`mem=${memoryMib}M`, 'root=/dev/root', 'rootfstype=hostfs', 'rootflags=/', 'ro', `init=${init}`];
  args.push(`JOB=${dir}`, 'con=null', 'con0=fd:0,fd:1', 'loglevel=1', 'panic=-1');
  // In a process group of its own: the guest's processes are processes of the host, and all end with the group. HOME is
  // where it keeps its control socket.
  const guest = spawn(kernelBinary, args, {
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

function script({ command, cwd = process.cwd(), env = {} }: GuestJob): string {
  const exports = Object.entries({ PATH: process.env['PATH'] ?? '', ...env }).map(
    ([name, value]) => `export ${name}=${quoted(value)}`,
  );
  return `#!/bin/sh\n${exports.join('\n')}\ncd ${quoted(cwd)} && exec ${command.map(quoted).join(' ')} 2>&1\n`;
}

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

function writeExecutable(path: string, text: string): void {
  writeFileSync(path, text);
  chmodSync(path, 0o755);
}
