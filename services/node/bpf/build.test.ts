import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { buildPrograms } from './build.ts';

it('makes the same bytes wherever the sources lie', async () => {
  const elsewhere = mkdtempSync(join(tmpdir(), 'octoplane-bpf-'));
  try {
    for (const name of readdirSync(import.meta.dirname))
      if (/\.(c|h|ts)$/.test(name)) cpSync(join(import.meta.dirname, name), join(elsewhere, name));
    const copy = (await import(join(elsewhere, 'build.ts'))) as { buildPrograms: typeof buildPrograms };
    buildPrograms({ outDir: join(elsewhere, 'first'), force: true });
    copy.buildPrograms({ outDir: join(elsewhere, 'second'), force: true });
    const objects = readdirSync(join(elsewhere, 'first')).filter((name) => name.endsWith('.o'));
    expect(objects.length).toBeGreaterThan(0);
    for (const name of objects)
      expect(
        readFileSync(join(elsewhere, 'second', name)).equals(readFileSync(join(elsewhere, 'first', name))),
        name,
      ).toBe(true);
  } finally {
    rmSync(elsewhere, { recursive: true });
  }
});
