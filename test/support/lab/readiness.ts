import { closeSync, readSync, writeSync } from 'node:fs';
import { openEventFd, pollReadable } from './libc.ts';

/** Tells of readable file descriptors that Node's own event loop does not take (raw sockets): one poll(2) for all of them. */
export class Readiness {
  readonly #wake = openEventFd();
  readonly #watched = new Map<number, () => void>();
  readonly #closing: number[] = [];
  #running = false;

  add(fd: number, onReadable: () => void): void {
    this.#watched.set(fd, onReadable);
    this.#poke();
    if (!this.#running) void this.#run();
  }

  /** And closes it, as soon as poll has let go of it: a number that is free may be another file at once. */
  remove(fd: number): void {
    this.#watched.delete(fd);
    this.#closing.push(fd);
    this.#poke();
  }

  async #run(): Promise<void> {
    this.#running = true;
    while (this.#watched.size > 0) {
      const ready = await pollReadable([this.#wake, ...this.#watched.keys()]);
      for (const fd of this.#closing.splice(0)) closeSync(fd);
      for (const fd of ready) {
        if (fd === this.#wake) readSync(fd, Buffer.alloc(8));
        else this.#watched.get(fd)?.();
      }
    }
    for (const fd of this.#closing.splice(0)) closeSync(fd);
    this.#running = false;
  }

  #poke(): void {
    const one = Buffer.alloc(8);
    one.writeUInt8(1);
    writeSync(this.#wake, one);
  }
}
