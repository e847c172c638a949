import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type DriverName, driverNames } from './driver.ts';

/** Somebody who may have something in the kernel: another driver, kube-proxy, or what keeps netfilter's connections going. */
export type Other = DriverName | 'kube-proxy' | 'connection-keeper';

/**
 * Who may have something in the kernel: a line each in a file of the state directory. After a switch the rules of the one
 * before stay until ours are in place, and are then removed (P47), whatever was killed in between. Without the file anybody
 * may have been here; kube-proxy leaves no trace in it and may have been here at any time.
 */
export class DriverTrace {
  readonly #path: string;
  readonly #current: DriverName;

  constructor(stateDir: string, current: DriverName) {
    this.#path = join(stateDir, 'drivers');
    this.#current = current;
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  }

  /** Before the first rule is written. Returns the others that may have something there. */
  begin(): readonly Other[] {
    const seen = this.#read();
    const others = ([...driverNames, 'kube-proxy', 'connection-keeper'] as const).filter(
      (name) => name !== this.#current && (seen === null || name === 'kube-proxy' || seen.includes(name)),
    );
    this.#write([...others, this.#current]);
    return others;
  }

  /** The others have none left, but for these. */
  leave(remaining: Iterable<Other>): void {
    this.#write([...remaining, this.#current]);
  }

  #read(): readonly string[] | null {
    try {
      return readFileSync(this.#path, 'utf8').split('\n');
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
      throw error;
    }
  }

  #write(names: readonly Other[]): void {
    writeFileSync(this.#path, `${names.join('\n')}\n`, { mode: 0o600 });
  }
}
