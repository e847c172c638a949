import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Compiles the BPF programs. Releases carry the objects, so users need no compiler; a checkout builds them when
 * the sources differ from those of the last build. The objects are not committed: nobody can review them.
 *
 * The build is reproducible: the same clang makes the same bytes wherever the checkout lies (build.test.ts).
 */
const here = import.meta.dirname;
export const objectDir = join(here, 'dist');

/** Little-endian targets are all that Octoplane ships for. */
const flags = [
  '-O2',
  '-g',
  '-target',
  'bpfel',
  '-mcpu=v3',
  '-Wall',
  '-Wextra',
  '-Werror',
  `-ffile-prefix-map=${here}=.`,
];

/** asm/types.h lies in a directory of the architecture on Debian; only fixed-width types come from it. */
const includes = ['x86_64-linux-gnu', 'aarch64-linux-gnu']
  .map((triple) => `/usr/include/${triple}`)
  .filter(existsSync)
  .map((path) => `-I${path}`);

export interface BuildOptions {
  readonly outDir: string;
  /** Compile although the sources are those of the last build. */
  readonly force: boolean;
  /** In place of those of consts.h. */
  readonly defines?: Readonly<Record<string, number>>;
}

/** @throws when clang is missing or finds an error; its output is in the message. */
export function buildPrograms(
  { outDir, force, defines = {} }: BuildOptions = { outDir: objectDir, force: false },
): void {
  const stamp = join(outDir, 'sources.sha256');
  const options = [...flags, ...includes, ...Object.entries(defines).map(([name, value]) => `-D${name}=${value}`)];
  const hash = sourceHash(options);
  if (!force && existsSync(stamp) && readFileSync(stamp, 'utf8') === hash) return;
  mkdirSync(outDir, { recursive: true });
  for (const source of programSources()) {
    const object = join(outDir, source.replace(/\.c$/, '.o'));
    // By rename, because others may be reading it.
    const made = `${object}.${process.pid}`;
    compile(source, made, options);
    renameSync(made, object);
  }
  writeFileSync(stamp, hash);
}

function compile(source: string, object: string, options: readonly string[]): void {
  try {
    execFileSync('clang', [...options, '-c', source, '-o', object], { cwd: here, stdio: 'pipe' });
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT')
      throw new Error('clang is needed to build the BPF programs: install clang, libbpf-dev and linux-libc-dev.', {
        cause: error,
      });
    const output = error instanceof Error && 'stderr' in error ? String(error.stderr) : '';
    throw new Error(`${source} does not compile:\n${output}`, { cause: error });
  }
}

const programSources = (): string[] =>
  readdirSync(here)
    .filter((name) => name.endsWith('.bpf.c'))
    .sort();

function sourceHash(options: readonly string[]): string {
  const hash = createHash('sha256').update(JSON.stringify(options));
  for (const name of readdirSync(here).sort())
    if (name.endsWith('.c') || name.endsWith('.h')) hash.update(name).update(readFileSync(join(here, name)));
  return hash.digest('hex');
}

if (process.argv[1] === import.meta.filename) {
  try {
    buildPrograms();
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
}
