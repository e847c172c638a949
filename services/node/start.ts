import { readFileSync } from 'node:fs';
import type { Logger } from 'pino';
import { Conntrack, conntrackProblem } from './conntrack/ctnetlink.ts';
import { driverOptions } from './driver-options.ts';
import { type Driver, type DriverModule, driverNames } from './drivers/driver.ts';
import { report } from './drivers/leftovers.ts';
import { chooseDriver, cleanUpDrivers, type DriverRegistry, NoDriverError } from './drivers/registry.ts';
import type { Journal } from './journal/journal.ts';
import type { NodeOptions } from './options.ts';
import { credentialsFor, type Transport } from './receive/channel.ts';
import type { HeldRuleSet } from './reconcile/held.ts';
import { StartError } from './start-error.ts';

/** The steps of a start that may fail for reasons that a user can do something about: each is a StartError in one sentence. */

/** Certificates are read for every connection; that they can be read at all is found out now. */
export async function requireTlsFiles(transport: Transport): Promise<void> {
  try {
    await credentialsFor(transport);
  } catch (error) {
    throw new StartError(
      'TLS_FILES',
      `the TLS files cannot be used (${messageOf(error)}): check --tls-cert, --tls-key and --tls-ca`,
      error,
    );
  }
}

export function openState(journal: Journal, stateDir: string): HeldRuleSet {
  try {
    return journal.load();
  } catch (error) {
    throw new StartError(
      'STATE_DIR',
      `the state directory ${stateDir} cannot be used (${messageOf(error)}): make it writable, or pass --state-dir`,
      error,
    );
  }
}

export async function chooseDriverModule(
  registry: DriverRegistry,
  options: NodeOptions,
  logger: Logger,
): Promise<DriverModule> {
  try {
    return await chooseDriver(registry, options.driver, (name) => driverOptions(options, name, logger));
  } catch (error) {
    if (error instanceof NoDriverError) throw new StartError('NO_DRIVER', error.message, error);
    throw error;
  }
}

export async function openDriver(module: DriverModule, options: NodeOptions, logger: Logger): Promise<Driver> {
  try {
    return await module.open(driverOptions(options, module.name, logger));
  } catch (error) {
    throw new StartError('NO_DRIVER', `the ${module.name} driver cannot be opened: ${messageOf(error)}`, error);
  }
}

/** Null, with a warning, where conntrack cannot be reached: forwarding does without. */
export function openConntrack(logger: Logger): Conntrack | null {
  try {
    return Conntrack.open();
  } catch (error) {
    logger.warn({ err: error }, `stale UDP flows will not be deleted: ${conntrackProblem(error)}`);
    return null;
  }
}

/** `--cleanup`: removes what any driver has left. @throws StartError when one of them could not */
export async function cleanUpNode(registry: DriverRegistry, options: NodeOptions, logger: Logger): Promise<void> {
  const results = await cleanUpDrivers(registry, (name) => driverOptions(options, name, logger), driverNames);
  for (const result of results) report(result, logger);
  const failed = results.flatMap((result) =>
    result.t === 'failed' ? [`${result.driver} (${messageOf(result.error)})`] : [],
  );
  if (failed.length > 0)
    throw new StartError('CLEANUP_FAILED', `rules are left of ${failed.join(', ')}: run --cleanup again as root`);
}

/** random(4): one value from boot to boot. */
export const bootId = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
