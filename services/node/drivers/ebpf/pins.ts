import { mkdirSync, readdirSync, rmSync, statfsSync, unlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { layoutVersion } from './layout.ts';

/**
 * Where the driver's objects are found again: OCTOPLANE/maps-LAYOUT/NAME and octoplane/links/NAME under the bpffs mount.
 * Maps of another layout lie beside ours until our programs have taken the links over; so an upgrade drops nothing.
 */
export interface Pins {
  readonly root: string;
  readonly maps: string;
  readonly links: string;
}

export function pinsUnder(bpfFsPath: string): Pins {
  const root = join(bpfFsPath, 'octoplane');
  return { root, maps: join(root, `maps-${layoutVersion}`), links: join(root, 'links') };
}

export function makePinDirectories({ maps, links }: Pins): void {
  mkdirSync(maps, { recursive: true, mode: 0o700 });
  mkdirSync(links, { recursive: true, mode: 0o700 });
}

/** Names in a pin directory; none when it is absent. */
export function pinned(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (isAbsent(error)) return [];
    throw error;
  }
}

export function unpin(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (!isAbsent(error)) throw error;
  }
}

/** Maps that programs of another layout left. Returns how many directories went. */
export function removeOtherLayouts({ root, maps }: Pins): number {
  const others = pinned(root).filter((name) => name.startsWith('maps-') && join(root, name) !== maps);
  for (const name of others) rmSync(join(root, name), { recursive: true });
  return others.length;
}

export function removeAllPins({ root }: Pins): void {
  rmSync(root, { recursive: true, force: true });
}

const magic = { bpf: 0xcafe4a11, cgroup2: 0x63677270 } as const;

/** Is `path`, or where it would be made, on a file system of this kind? */
export function isOn(fileSystem: keyof typeof magic, path: string): boolean {
  try {
    // The kernel gives the number as a signed word on some architectures.
    return statfsSync(path).type >>> 0 === magic[fileSystem];
  } catch (error) {
    if (!isAbsent(error)) throw error;
    return dirname(path) !== path && isOn(fileSystem, dirname(path));
  }
}

const isAbsent = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'ENOENT';
