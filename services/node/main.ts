import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { type Clock, systemClock } from './clock.ts';
import type { Driver, DriverModule, DriverName, DriverOptions } from './drivers/driver.ts';
import { chooseDriver, type DriverRegistry, driverRegistry, NoDriverError } from './drivers/registry.ts';
import { Journal } from './journal/journal.ts';
import { type NodeOptions, validateNodeOptions } from './options.ts';
import { followControllers } from './receive/link.ts';
import type { HeldRuleSet } from './reconcile/held.ts';
import { silentObserver } from './reconcile/observer.ts';
import { Reconciler } from './reconcile/reconciler.ts';
import { healKernel } from './reconcile/self-healing.ts';
import { StartError } from './start-error.ts';

export interface NodeRuntime {
  readonly logger: Logger;
  /** Ends the daemon; its rules stay. */
  readonly signal: AbortSignal;
  readonly registry?: DriverRegistry;
  readonly clock?: Clock;
}

export const release = '0.1.0';

/**
 * The node daemon, until the signal is aborted. Rules stay in the kernel when it ends.
 * @throws StartError when it cannot start
 */
export async function runNode(options: NodeOptions, runtime: NodeRuntime): Promise<void> {
  validateNodeOptions(options);
  const { signal, registry = driverRegistry, clock = systemClock } = runtime;
  const logger = runtime.logger.child({ node: options.nodeName });
  const journal = new Journal({ stateDir: options.stateDir, logger, clock });
  const held = openState(journal, options.stateDir);
  const module = await choose(registry, options, logger);
  const driver = await open(module, driverOptions(options, module.name, logger));
  const reconciler = new Reconciler({ driver, held, journal, flows: null, clock, logger, observer: silentObserver });
  try {
    await reconciler.start();
    await Promise.all([
      healKernel({ driver, reconciler, clock, syncPeriodMs: options.syncPeriodMs }, signal),
      followControllers(
        {
          controllers: options.controllers,
          transport: options.transport,
          identity: { name: options.nodeName, release, zone: options.zone, driver: module.name, bootId: bootId() },
          clock,
          logger,
          random: Math.random,
          observer: { connected: () => undefined, disconnected: () => undefined },
        },
        {
          summary: () => reconciler.summary(),
          bucketDigests: () => reconciler.bucketDigests(),
          rename: (version, inputs) => reconciler.rename(version, inputs),
          program: (frame) => reconciler.program(frame),
          nodeState: () => undefined,
        },
        signal,
      ),
    ]);
  } finally {
    await reconciler.idle();
    journal.close();
    await driver.close();
  }
}

function openState(journal: Journal, stateDir: string): HeldRuleSet {
  try {
    return journal.load();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new StartError(
      'STATE_DIR',
      `the state directory ${stateDir} cannot be used (${why}): create it, or pass --state-dir`,
      error,
    );
  }
}

async function choose(registry: DriverRegistry, options: NodeOptions, logger: Logger): Promise<DriverModule> {
  try {
    return await chooseDriver(registry, options.driver, driverOptions(options, 'fake', logger));
  } catch (error) {
    if (error instanceof NoDriverError) throw new StartError('NO_DRIVER', error.message, error);
    throw error;
  }
}

async function open(module: DriverModule, options: DriverOptions): Promise<Driver> {
  try {
    return await module.open(options);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new StartError('NO_DRIVER', `the ${module.name} driver cannot be opened: ${why}`, error);
  }
}

function driverOptions(options: NodeOptions, name: DriverName, logger: Logger): DriverOptions {
  return {
    logger: logger.child({ driver: name }),
    clusterCidrs: options.clusterCidrs,
    masqueradeAll: options.masqueradeAll,
    masqueradeBit: options.masqueradeBit,
    nodePortAddresses: options.nodePortAddresses,
    nodeAddresses: options.nodeAddresses,
    icmp: options.icmp,
    dropInvalid: !options.conntrack.tcpBeLiberal,
    cgroupPath: options.cgroupPath,
    bpfFsPath: options.bpfFsPath,
    stateDir: join(options.stateDir, name),
  };
}

/** random(4): one value from boot to boot. */
const bootId = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
