import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { type DriverName, type DriverOptions, driverNames } from './driver.ts';
import { type Cleanup, cleanUpDrivers, type DriverRegistry } from './registry.ts';

/**
 * Which drivers may have rules in the kernel: a line each in a file of the state directory. After a switch the rules of the one
 * before stay until ours are in place, and are then removed (P47), whatever was killed in between. Without the file any driver
 * may have been here.
 */
export class DriverTrace {
  readonly #path: string;
  readonly #current: DriverName;

  constructor(stateDir: string, current: DriverName) {
    this.#path = join(stateDir, 'drivers');
    this.#current = current;
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  }

  /** Before the first rule is written. Returns the others that may have rules; on a new node kube-proxy is one of them. */
  begin(): readonly Other[] {
    const seen = this.#read();
    const others = ([...driverNames, kubeProxy] as const).filter(
      (name) => name !== this.#current && (seen === null || seen.includes(name)),
    );
    this.#write([...others, this.#current]);
    return others;
  }

  /** The others have none left, but for these. */
  end(remaining: readonly Other[]): void {
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

const kubeProxy = 'kube-proxy';

/** Somebody who may have rules here. */
export type Other = DriverName | typeof kubeProxy;

/** Removes what others have left, now that ours is in place. A driver that fails is tried again at the next start. */
export async function removeLeftovers(
  trace: DriverTrace,
  others: readonly Other[],
  registry: DriverRegistry,
  options: (name: DriverName) => DriverOptions,
  removeForeign: (logger: Logger) => Promise<void>,
  logger: Logger,
): Promise<void> {
  if (others.length === 0) return;
  const remaining: Other[] = [];
  const drivers = others.filter((name) => name !== kubeProxy);
  for (const result of await cleanUpDrivers(registry, options, drivers)) {
    report(result, logger);
    if (result.t === 'failed') remaining.push(result.driver);
  }
  if (others.includes(kubeProxy)) {
    try {
      await removeForeign(logger);
    } catch (error) {
      remaining.push(kubeProxy);
      logger.error({ err: error }, 'rules of kube-proxy could not be removed; it is tried again at the next start');
    }
  }
  trace.end(remaining);
}

export function report(result: Cleanup, logger: Logger): void {
  const { driver } = result;
  if (result.t === 'clean') logger.info({ driver }, 'no rules of this driver are left');
  else if (result.t === 'not-here')
    logger.debug({ driver, lacks: result.lacks }, 'this driver cannot run here and has left nothing');
  else logger.error({ driver, err: result.error }, 'rules of this driver could not be removed');
}
