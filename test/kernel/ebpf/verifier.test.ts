import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildPrograms } from '@octoplane/node/bpf/build.ts';
import { libbpf } from '@octoplane/node/drivers/ebpf/libbpf.ts';
import { LoadedObject, objectPath } from '@octoplane/node/drivers/ebpf/object.ts';
import { describe, expect, it } from 'vitest';

/**
 * What every program costs the verifier, as verifier.json has it: a jump may be more than an older kernel takes, and deserves a
 * look. How far the verifier walks differs between kernels, so on another one than the record's only the limit is held.
 * UPDATE_GOLDEN=1 writes the record anew.
 */
interface Cost {
  /** As compiled, with all functions. */
  readonly instructions: number;
  /** verified_insns of struct bpf_prog_info (Linux 5.16). */
  readonly walked: number;
}

interface Costs {
  readonly kernel: string;
  readonly programs: Readonly<Record<string, Cost>>;
}

const file = join(import.meta.dirname, 'verifier.json');
const jump = 1.1;
/** The kernel's is 1,000,000. */
const limit = 100_000;

describe('the verifier', () => {
  const costs = measure();
  if (process.env['UPDATE_GOLDEN']) writeFileSync(file, `${JSON.stringify(costs, null, 2)}\n`);
  const record: Costs = JSON.parse(readFileSync(file, 'utf8'));

  it('is recorded for every program', () => {
    expect(Object.keys(costs.programs)).toEqual(Object.keys(record.programs));
  });

  it.each(Object.entries(costs.programs))('walks %s as far as it did', (name, { instructions, walked }) => {
    const before = record.programs[name] ?? { instructions: 0, walked: 0 };
    expect(instructions).toBeLessThan(before.instructions * jump);
    expect(walked).toBeLessThan(record.kernel === costs.kernel ? before.walked * jump : limit);
  });
});

function measure(): Costs {
  buildPrograms();
  const pins = mkdtempSync(join(tmpdir(), `octoplane-verifier-${process.pid}-`));
  execFileSync('mount', ['-t', 'bpf', 'bpf', pins]);
  try {
    const programs = ['sockets', 'packets', 'ends', 'direct'].flatMap((name) => costsOf(objectPath(name), pins));
    return { kernel: release().split('.').slice(0, 2).join('.'), programs: Object.fromEntries(programs.sort()) };
  } finally {
    execFileSync('umount', [pins]);
    rmSync(pins, { recursive: true });
  }
}

function costsOf(path: string, pins: string): [string, Cost][] {
  const object = LoadedObject.load(path, pins, {});
  try {
    return [...object.programs()].map(({ name, fd, instructions }) => [name, { instructions, walked: walkedIn(fd) }]);
  } finally {
    object.close();
  }
}

function walkedIn(program: number): number {
  const info = Buffer.alloc(256);
  expect(libbpf().info(program, info, Uint32Array.of(info.length))).toBe(0);
  return info.readUInt32LE(216);
}
