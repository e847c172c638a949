import { checked, errnos, KernelError } from './kernel-error.ts';
import { type Libbpf, libbpf, type Pointer } from './libbpf.ts';

/** Keys and values side by side, as one batch call takes them. */
export class Elements {
  readonly keys: Buffer;
  readonly values: Buffer;
  readonly count: number;
  constructor(count: number, keyBytes: number, valueBytes: number) {
    this.keys = Buffer.alloc(count * keyBytes);
    this.values = Buffer.alloc(count * valueBytes);
    this.count = count;
  }
}

/** A map, or what one was a moment ago. */
export interface Readable {
  /** Into `value`; false: the key is absent. */
  read(key: Buffer, value: Buffer): boolean;
}

/** A hash or trie of the kernel: written in batches, one call however many elements. */
export class KernelMap implements Readable {
  readonly name: string;
  readonly fd: number;
  readonly keyBytes: number;
  readonly valueBytes: number;
  readonly #bpf: Libbpf;

  constructor(name: string, fd: number, sizes: { readonly keyBytes: number; readonly valueBytes: number }) {
    this.name = name;
    this.fd = fd;
    this.keyBytes = sizes.keyBytes;
    this.valueBytes = sizes.valueBytes;
    this.#bpf = libbpf();
  }

  elements(count: number): Elements {
    return new Elements(count, this.keyBytes, this.valueBytes);
  }

  write({ keys, values, count }: Elements): void {
    if (count === 0) return;
    const result = this.#bpf.updateBatch(this.fd, keys, values, Uint32Array.of(count), null);
    const full = result === errnos.tooBig ? ', which is full' : '';
    checked(result, `writing ${count} elements of map ${this.name}${full}`);
  }

  /** What is absent stays absent. */
  remove(keys: Buffer): void {
    const count = keys.length / this.keyBytes;
    for (let done = 0; done < count; ) {
      const removed = Uint32Array.of(count - done);
      const result = this.#bpf.removeBatch(this.fd, keys.subarray(done * this.keyBytes), removed, null);
      if (result !== errnos.noEntry) {
        checked(result, `removing ${count} elements of map ${this.name}`);
        return;
      }
      // The batch stopped at an absent key: go on behind it.
      done += (removed[0] ?? 0) + 1;
    }
  }

  read(key: Buffer, value: Buffer): boolean {
    const result = this.#bpf.lookup(this.fd, key, value);
    if (result === errnos.noEntry) return false;
    checked(result, `reading an element of map ${this.name}`);
    return true;
  }

  /** The whole map as it is now, in a few calls: for who would otherwise ask for a good part of it, one element after the other. */
  snapshot(): Readable {
    const found = new Map<string, Buffer>();
    for (const { keys, values, count } of this.chunks()) {
      const all = Buffer.from(values.subarray(0, count * this.valueBytes));
      for (let i = 0; i < count; i++)
        found.set(
          keys.toString('latin1', i * this.keyBytes, (i + 1) * this.keyBytes),
          all.subarray(i * this.valueBytes, (i + 1) * this.valueBytes),
        );
    }
    const read = (key: Buffer, value: Buffer): boolean => (found.get(key.toString('latin1'))?.copy(value) ?? 0) > 0;
    return { read };
  }

  /** The whole map, a chunk at a time; `values` and `keys` are overwritten by the next chunk. */
  *chunks(): Generator<Elements> {
    let size = 4096;
    let elements = this.elements(size);
    // A hash keeps its place as a bucket number, a trie as a key.
    let from: Buffer | null = null;
    let next: Buffer = Buffer.alloc(Math.max(this.keyBytes, 4));
    for (;;) {
      const count = Uint32Array.of(size);
      const result = this.#bpf.lookupBatch(this.fd, from, next, elements.keys, elements.values, count, null);
      if (result === errnos.noSpace) {
        // A bucket that is longer than the chunk.
        size *= 2;
        elements = this.elements(size);
        continue;
      }
      const last = result === errnos.noEntry;
      if (!last) checked(result, `reading map ${this.name}`);
      yield { keys: elements.keys, values: elements.values, count: count[0] ?? 0 };
      if (last) return;
      [from, next] = [next, from ?? Buffer.alloc(next.length)];
    }
  }
}

/** The array of backends as memory of this process: what is written there is in the kernel, without a call. */
export class MappedArray {
  readonly bytes: Buffer;
  readonly #address: Pointer;
  readonly #length: number;

  constructor(name: string, fd: number, length: number) {
    const bpf = libbpf();
    // PROT_READ | PROT_WRITE, MAP_SHARED.
    const address = bpf.mapMemory(null, length, 3, 1, fd, 0);
    if (BigInt.asIntN(64, address) === -1n) throw new KernelError(`mapping map ${name} into memory`, bpf.errno());
    this.#address = address;
    this.#length = length;
    this.bytes = bpf.view(address, length);
  }

  /** `bytes` must not be touched afterwards. */
  close(): void {
    checked(libbpf().unmapMemory(this.#address, this.#length), 'unmapping the backends');
  }
}
