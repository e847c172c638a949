import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { DriverError } from '../driver.ts';
import { checked, errnos, KernelError } from './kernel-error.ts';
import { libbpf, type Pointer } from './libbpf.ts';

/** One compiled file, loaded: its maps are pinned, or taken over where they were. Nothing is attached yet. */
export class LoadedObject {
  readonly #object: Pointer;

  private constructor(object: Pointer) {
    this.#object = object;
  }

  /**
   * `sizes`: entries by map name, for maps that are not pinned yet and those that are alike.
   * @throws DriverError with the verifier's last words.
   */
  static load(path: string, pinRoot: string | null, sizes: Readonly<Record<string, number>>): LoadedObject {
    const bpf = libbpf();
    const log = Buffer.alloc(1 << 20);
    let asking = true;
    for (let attempt = 1; ; attempt++) {
      const object = openObject(path, pinRoot, sizes, log);
      const asks = asking && askNetfilter(object);
      const result = bpf.loadObject(object);
      if (result >= 0) return new LoadedObject(object);
      const foreign = pinRoot === null ? null : foreignPin(object, pinRoot);
      bpf.closeObject(object);
      // A signal interrupts the verifier (a profiler's, or SIGIO of a netlink socket): nothing is wrong with the program.
      if (result === errnos.again && attempt < loadAttempts) continue;
      if (foreign !== null)
        throw new DriverError(
          `${foreign} is not the map that this release pins there: remove it, or name another --bpf-fs.`,
        );
      if (asks) {
        // This kernel has no nf_conntrack, or no BTF of it: the programs do without.
        asking = false;
        continue;
      }
      throw new DriverError(`the kernel does not take ${path}${verdict(log)}`, {
        cause: new KernelError('bpf_object__load', -result),
      });
    }
  }

  /** @throws when the object has no such map. */
  mapFd(name: string): number {
    const map = libbpf().findMap(this.#object, name);
    if (map === null) throw new Error(`the object has no map ${name}`);
    return checked(libbpf().mapFd(map), `map ${name}`);
  }

  /** @throws when the object has no such program. */
  programFd(name: string): number {
    const program = libbpf().findProgram(this.#object, name);
    if (program === null) throw new Error(`the object has no program ${name}`);
    return checked(libbpf().programFd(program), `program ${name}`);
  }

  *programs(): Generator<{ readonly name: string; readonly fd: number; readonly instructions: number }> {
    const bpf = libbpf();
    for (let at = bpf.nextProgram(this.#object, null); at !== null; at = bpf.nextProgram(this.#object, at)) {
      const name = bpf.programName(at);
      yield { name, fd: checked(bpf.programFd(at), `program ${name}`), instructions: bpf.instructions(at) };
    }
  }

  /** Pins maps again whose pins somebody has removed; the maps themselves live as long as a program uses them. */
  ensurePins(directory: string, names: readonly string[]): number {
    let put = 0;
    for (const name of names) {
      const path = join(directory, name);
      if (existsSync(path)) continue;
      checked(libbpf().pin(this.mapFd(name), path), `pinning ${path}`);
      put++;
    }
    return put;
  }

  /** Programs that are attached and maps that are pinned stay. */
  close(): void {
    libbpf().closeObject(this.#object);
  }
}

const loadAttempts = 20;

function openObject(
  path: string,
  pinRoot: string | null,
  sizes: Readonly<Record<string, number>>,
  log: Buffer,
): Pointer {
  const bpf = libbpf();
  const object = bpf.openObject(path, pinRoot, log);
  if (object === null)
    throw new DriverError(`${path} cannot be opened: build it with "npm run build".`, {
      cause: new KernelError('bpf_object__open_file', bpf.errno()),
    });
  for (const [name, entries] of Object.entries(sizes)) {
    const map = bpf.findMap(object, name);
    if (map !== null) checked(bpf.setMaxEntries(map, entries), `sizing map ${name}`);
  }
  return object;
}

/** What is pinned where one of the object's maps should be, and is another one. */
function foreignPin(object: Pointer, pinRoot: string): string | null {
  const bpf = libbpf();
  for (let map = bpf.nextMap(object, null); map !== null; map = bpf.nextMap(object, map)) {
    const path = join(pinRoot, bpf.mapName(map));
    const fd = bpf.openPin(path);
    if (fd < 0) continue;
    // struct bpf_map_info: type, id, key, value, entries.
    const info = Buffer.alloc(128);
    checked(bpf.info(fd, info, Uint32Array.of(info.length)), `reading about ${path}`);
    checked(bpf.closeFd(fd), 'close');
    const there = [0, 8, 12, 16].map((at) => info.readUInt32LE(at));
    const wanted = [bpf.mapType(map), bpf.keyBytes(map), bpf.valueBytes(map), bpf.maxEntries(map)];
    if (there.some((value, i) => value !== wanted[i])) return path;
  }
  return null;
}

/** Lets the programs ask conntrack (netfilter.h). False: none of them would. */
function askNetfilter(object: Pointer): boolean {
  const bpf = libbpf();
  const map = bpf.findMap(object, '.rodata.netfilter');
  if (map === null) return false;
  checked(bpf.setInitialValue(map, Buffer.from(Uint32Array.of(1).buffer), 4), 'setting a constant of the programs');
  return true;
}

/** Beside the bundle in a release; where the build puts it in a checkout. */
export function objectPath(name: string): string {
  const released = join(import.meta.dirname, 'bpf', `${name}.bpf.o`);
  return existsSync(released) ? released : join(import.meta.dirname, '..', '..', 'bpf', 'dist', `${name}.bpf.o`);
}

function verdict(log: Buffer): string {
  const end = log.indexOf(0);
  const lines = log
    .toString('utf8', 0, end < 0 ? log.length : end)
    .trim()
    .split('\n');
  const shown = lines.slice(-6).join('\n');
  if (shown === '') return '';
  const omitted = lines.length > 6 ? ` (${lines.length - 6} lines omitted)` : '';
  return `; the verifier says${omitted}:\n${shown}`;
}
