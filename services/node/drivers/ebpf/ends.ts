import { readdirSync, statSync } from 'node:fs';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import { readIterator } from './iterator.ts';
import { checked, KernelError } from './kernel-error.ts';
import { endpointBytes, type Endpoint as Place, writeEndpoint } from './layout.ts';
import { libbpf } from './libbpf.ts';
import { KernelMap } from './maps.ts';
import type { LoadedObject } from './object.ts';

/** An endpoint that a service port no longer has. */
export interface Gone {
  readonly key: ServicePortKey;
  readonly service: number;
  readonly backend: Place;
}

const goneBytes = 32;
/** As MAX_GONE in consts.h. */
const maxGone = 65_536;
const CLONE_NEWNET = 0x4000_0000;
/** BPF_TRACE_ITER of enum bpf_attach_type. */
const traceIter = 28;

/** Ends UDP sockets, of whatever pod, that are connected to an endpoint which has gone (ends.bpf.c). */
export class SocketEnds {
  readonly #gone: KernelMap;
  readonly #find: number;
  readonly #end: number;

  constructor(object: LoadedObject) {
    this.#gone = new KernelMap('gone', object.mapFd('gone'), { keyBytes: goneBytes, valueBytes: 4 });
    const bpf = libbpf();
    this.#find = checked(
      bpf.createMapIterator(object.programFd('octo_find'), object.mapFd('udp_peers')),
      'preparing to find sockets',
    );
    const end = bpf.createLink(object.programFd('octo_end'), 0, traceIter, null);
    if (end < 0) bpf.closeFd(this.#find);
    this.#end = checked(end, 'preparing to end sockets');
  }

  /** Returns how many. Costs a walk over the UDP sockets that services were connected through, when one of these is concerned. */
  end(gone: readonly Gone[]): number {
    let ended = 0;
    for (let at = 0; at < gone.length; at += maxGone) ended += this.#endSome(gone.slice(at, at + maxGone));
    return ended;
  }

  #endSome(gone: readonly Gone[]): number {
    const elements = this.#gone.elements(gone.length);
    for (const [i, { service, backend }] of gone.entries()) {
      writeEndpoint(elements.keys, i * goneBytes, backend);
      elements.keys.writeUInt32LE(service, i * goneBytes + endpointBytes);
    }
    this.#gone.write(elements);
    try {
      let ended = 0;
      for (const netns of this.#namespacesConcerned()) ended += this.#endIn(netns);
      return ended;
    } finally {
      this.#gone.remove(elements.keys);
    }
  }

  close(): void {
    libbpf().closeFd(this.#find);
    libbpf().closeFd(this.#end);
  }

  #namespacesConcerned(): ReadonlySet<number> {
    const bytes = readIterator(this.#find);
    const found = new Set<number>();
    for (let at = 0; at < bytes.length; at += 4) found.add(bytes.readUInt32LE(at));
    return found;
  }

  #endIn(netns: number): number {
    const path = pathOf(netns);
    // It went with its last process since we looked, and its sockets with it.
    return path === null ? 0 : inNetns(path, () => readIterator(this.#end).length);
  }
}

/** Where a network namespace can be entered: those of processes, and those that are kept without one. */
function pathOf(netns: number): string | null {
  for (const path of namespacePaths()) if (inodeOf(path) === netns) return path;
  return null;
}

function* namespacePaths(): Generator<string> {
  yield '/proc/self/ns/net';
  for (const name of namesIn('/run/netns')) yield `/run/netns/${name}`;
  for (const name of namesIn('/proc')) if (/^[0-9]+$/.test(name)) yield `/proc/${name}/ns/net`;
}

/** Runs `act`, which must not wait, with this thread in another network namespace. */
function inNetns<T>(path: string, act: () => T): T {
  const own = openNetns('/proc/thread-self/ns/net');
  try {
    const other = openNetns(path);
    try {
      enter(other, path);
    } finally {
      libbpf().closeFd(other);
    }
    try {
      return act();
    } finally {
      enter(own, "the daemon's own");
    }
  } finally {
    libbpf().closeFd(own);
  }
}

function enter(fd: number, name: string): void {
  if (libbpf().setNamespace(fd, CLONE_NEWNET) < 0)
    throw new KernelError(`entering network namespace ${name}`, libbpf().errno());
}

function openNetns(path: string): number {
  // O_RDONLY | O_CLOEXEC.
  const fd = libbpf().openPath(path, 0o2000000);
  if (fd < 0) throw new KernelError(`opening ${path}`, libbpf().errno());
  return fd;
}

function inodeOf(path: string): number | null {
  try {
    return statSync(path).ino;
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
}

function namesIn(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (isGone(error)) return [];
    throw error;
  }
}

/** Processes end while they are looked at; others' may be out of bounds for a daemon in a container. */
const isGone = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && ['ENOENT', 'ESRCH', 'EACCES'].includes(String(error.code));
