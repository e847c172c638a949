import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const packaged = '/usr/lib/uml/modules';
export const kernelBinary = '/usr/bin/linux.uml';

/** Why no guest can run here, with what to do; null: one can. */
export function guestIsLacking(): string | null {
  if (!existsSync(kernelBinary) || !existsSync(packaged))
    return 'the package user-mode-linux is missing: apt-get install user-mode-linux (Debian has it for amd64)';
  if (!['/sbin/depmod', '/usr/sbin/depmod'].some(existsSync))
    return 'the package kmod is missing: apt-get install kmod';
  if (!existsSync('/usr/bin/taskset')) return 'taskset is missing: apt-get install util-linux';
  if (!existsSync('/usr/sbin/ipvsadm') && !existsSync('/sbin/ipvsadm'))
    return 'the package ipvsadm is missing: apt-get install ipvsadm';
  return null;
}

/**
 * Makes DIR/modprobe, a program for the guest's kernel to load its modules with, and a tree of modules for it. The package's own
 * tree cannot serve: Debian lists its modules as lying in /lib/modules.
 */
export function provideModules(dir: string, dirInGuest: string): void {
  const [version] = readdirSync(packaged);
  if (version === undefined) throw new Error(`${packaged} is empty: reinstall the package user-mode-linux`);
  const tree = join(dir, 'lib', 'modules', version);
  cpSync(join(packaged, version), tree, { recursive: true });
  for (const file of readdirSync(tree)) {
    if (file.startsWith('modules.') && !keptByDepmod.has(file)) rmSync(join(tree, file));
  }
  execFileSync('depmod', ['-b', dir, version], { stdio: ['ignore', 'ignore', 'pipe'] });
  const modprobe = join(dir, 'modprobe');
  writeFileSync(modprobe, `#!/bin/sh\nexec modprobe -d ${dirInGuest} "$@"\n`);
  chmodSync(modprobe, 0o755);
}

const keptByDepmod = new Set(['modules.order', 'modules.builtin', 'modules.builtin.modinfo']);
