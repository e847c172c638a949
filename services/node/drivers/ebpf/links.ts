import { statSync } from 'node:fs';
import { join } from 'node:path';
import { checked, errnos } from './kernel-error.ts';
import { libbpf } from './libbpf.ts';
import { unpin } from './pins.ts';

/** enum bpf_attach_type. */
export const attachTypes = {
  bind4: 8,
  bind6: 9,
  connect4: 10,
  connect6: 11,
  sendmsg4: 14,
  sendmsg6: 15,
  recvmsg4: 19,
  recvmsg6: 20,
  peername4: 29,
  peername6: 30,
  tcxIngress: 46,
  tcxEgress: 47,
} as const;

/** What a link holds its program to: the id of a cgroup, or the index of a device. */
export type Target = { readonly t: 'cgroup'; readonly path: string } | { readonly t: 'device'; readonly index: number };

/** What `ensure` had to do: nothing that mattered, attach the program where none of ours was, or something else. */
export type Put = 'nothing' | 'attached' | 'other';

/**
 * Brings links about, all or none: what it attached until one fails is taken back. Returns how many were not as they should be.
 */
export function ensureAll(links: Iterable<Link>): number {
  const attached: Link[] = [];
  let put = 0;
  try {
    for (const link of links) {
      const done = link.ensure();
      if (done === 'attached') attached.push(link);
      if (done !== 'nothing') put++;
    }
  } catch (error) {
    for (const link of attached) link.undo();
    throw error;
  }
  return put;
}

/**
 * A pinned link: the attachment outlives the daemon, and the next one puts its program in the place of the last one in one
 * step, so that no connection falls between them. Links go beside the programs of others, never over them.
 */
export class Link {
  readonly path: string;
  readonly #program: number;
  readonly #attachType: number;
  readonly #target: Target;
  #fd = -1;

  constructor(at: { directory: string; name: string }, program: number, attachType: number, target: Target) {
    this.path = join(at.directory, at.name);
    this.#program = program;
    this.#attachType = attachType;
    this.#target = target;
  }

  /** Attaches, takes over, or re-pins what is missing. */
  ensure(): Put {
    const bpf = libbpf();
    const pinnedFd = bpf.openPin(this.path);
    if (pinnedFd < 0 && pinnedFd !== errnos.noEntry) checked(pinnedFd, `opening ${this.path}`);
    if (pinnedFd >= 0 && this.#isOnTarget(pinnedFd)) {
      const running = programOf(pinnedFd);
      this.#keep(pinnedFd);
      if (running === idOf(this.#program)) return 'nothing';
      // The same code is replaced too, since it may be on other maps, but nothing was wrong with it.
      const same = tagById(running).equals(tagOf(this.#program));
      checked(bpf.updateLink(pinnedFd, this.#program, null), `replacing the program of ${this.path}`);
      return same ? 'nothing' : 'other';
    }
    if (pinnedFd >= 0) {
      checked(bpf.closeFd(pinnedFd), 'close');
      unpin(this.path);
    }
    const attaches = this.#fd < 0 || !this.#isOnTarget(this.#fd);
    if (attaches) this.#keep(this.#create());
    checked(bpf.pin(this.#fd, this.path), `pinning ${this.path}`);
    return attaches ? 'attached' : 'other';
  }

  /** Takes back what `ensure` has attached. */
  undo(): void {
    this.close();
    detachPinned(this.path);
  }

  /** Leaves the pin, and with it the attachment. */
  close(): void {
    this.#keep(-1);
  }

  #create(): number {
    const bpf = libbpf();
    const target = this.#target;
    if (target.t === 'device')
      return checked(
        bpf.createLink(this.#program, target.index, this.#attachType, null),
        `attaching to device ${target.index}`,
      );
    const directory = openDirectory(target.path);
    try {
      return checked(
        bpf.createLink(this.#program, directory, this.#attachType, null),
        `attaching to cgroup ${target.path} (another program may hold it for itself alone: "bpftool cgroup show ${target.path}")`,
      );
    } finally {
      bpf.closeFd(directory);
    }
  }

  #keep(fd: number): void {
    if (this.#fd >= 0) checked(libbpf().closeFd(this.#fd), 'close');
    this.#fd = fd;
  }

  #isOnTarget(fd: number): boolean {
    const info = infoOf(fd);
    if (this.#target.t === 'device') return info.readUInt32LE(16) === this.#target.index;
    return info.readBigUInt64LE(16) === BigInt(statSync(this.#target.path, { bigint: true }).ino);
  }
}

/** Ends the attachment at once: without this it ends some time after its last reference is gone. */
export function detachPinned(path: string): void {
  const bpf = libbpf();
  const fd = bpf.openPin(path);
  if (fd === errnos.noEntry) return;
  checked(fd, `opening ${path}`);
  try {
    const result = bpf.detachLink(fd);
    // Its cgroup or device is gone already.
    if (result !== errnos.noLink) checked(result, `detaching ${path}`);
  } finally {
    bpf.closeFd(fd);
  }
  unpin(path);
}

const programOf = (link: number): number => infoOf(link).readUInt32LE(8);

/** struct bpf_prog_info: type, id. */
const idOf = (program: number): number => infoOf(program).readUInt32LE(4);

/** A hash of the program's instructions. */
const tagOf = (program: number): Buffer => infoOf(program).subarray(8, 16);

function tagById(id: number): Buffer {
  const fd = checked(libbpf().programById(id), `opening program ${id}`);
  try {
    return tagOf(fd);
  } finally {
    libbpf().closeFd(fd);
  }
}

function infoOf(fd: number): Buffer {
  const info = Buffer.alloc(256);
  checked(libbpf().info(fd, info, Uint32Array.of(info.length)), 'reading about a BPF object');
  return info;
}

function openDirectory(path: string): number {
  const bpf = libbpf();
  // O_DIRECTORY differs between architectures; O_RDONLY | O_CLOEXEC is enough.
  const fd = bpf.openPath(path, 0o2000000);
  return checked(fd < 0 ? -bpf.errno() : fd, `opening ${path}`);
}
