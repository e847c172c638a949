import { readFileSync, writeFileSync } from 'node:fs';
import type { Logger } from 'pino';
import { Conntrack, conntrackProblem } from './conntrack/ctnetlink.ts';
import type { ConnectionKeeper } from './conntrack/keeper.ts';
import { driverOptions } from './driver-options.ts';
import { besideEbpf, type Driver, type DriverModule, driverNames } from './drivers/driver.ts';
import { pinned, pinsUnder } from './drivers/ebpf/pins.ts';
import { type Cleanup, chooseDriver, cleanUpDrivers, type DriverRegistry, NoDriverError } from './drivers/registry.ts';
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
    const beside = module.name !== 'ebpf' && pinned(pinsUnder(options.bpfFsPath).links).length > 0;
    return await module.open({
      ...driverOptions(options, module.name, logger),
      ...(beside && { masqueradePorts: besideEbpf }),
    });
  } catch (error) {
    throw new StartError('NO_DRIVER', `the ${module.name} driver cannot be opened: ${messageOf(error)}`, error);
  }
}

/** Null where conntrack cannot be reached: forwarding does without. A driver whose flows are there is warned about it. */
export function openConntrack(flows: DriverModule['flows'], logger: Logger): Conntrack | null {
  try {
    return Conntrack.open();
  } catch (error) {
    const problem = conntrackProblem(error);
    if (flows === 'netfilter') logger.warn({ err: error }, `stale UDP flows will not be deleted: ${problem}`);
    else logger.debug({ err: error }, `connections of a driver before cannot be seen: ${problem}`);
    return null;
  }
}

/** `--cleanup`: removes what any driver has left. @throws StartError when one of them could not */
export async function cleanUpNode(
  registry: DriverRegistry,
  options: NodeOptions,
  logger: Logger,
  keeper: Pick<ConnectionKeeper, 'remove'>,
): Promise<void> {
  const results = await cleanUpDrivers(registry, (name) => driverOptions(options, name, logger), driverNames);
  await keeper.remove();
  for (const result of results) report(result, logger);
  const failed = results.flatMap((result) =>
    result.t === 'failed' ? [`${result.driver} (${messageOf(result.error)})`] : [],
  );
  if (failed.length > 0)
    throw new StartError('CLEANUP_FAILED', `rules are left of ${failed.join(', ')}: run --cleanup again as root`);
}

function report(result: Cleanup, logger: Logger): void {
  const { driver } = result;
  if (result.t === 'clean') logger.info({ driver }, 'no rules of this driver are left');
  else if (result.t === 'not-here')
    logger.debug({ driver, lacks: result.lacks }, 'this driver cannot run here and has left nothing');
  else logger.error({ driver, err: result.error }, 'rules of this driver could not be removed');
}

/** @throws StartError where it may not be lowered */
export function setOomScore(adj: number | null): void {
  if (adj === null) return;
  try {
    writeFileSync('/proc/self/oom_score_adj', String(adj));
  } catch (error) {
    throw new StartError(
      'BAD_OPTION',
      `--oom-score-adj ${adj} cannot be set (${messageOf(error)}): grant CAP_SYS_RESOURCE, or leave it to who starts the daemon`,
      error,
    );
  }
}

/** random(4): one value from boot to boot. */
export const bootId = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
