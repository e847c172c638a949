import type { DriverModule, DriverName, DriverOptions, Probe } from './driver.ts';
import { FakeKernel, fakeModule } from './fake.ts';

/**
 * Every driver there is. An explicit list: importing a module registers nothing, and a driver that is not used costs
 * nothing, neither its native libraries nor its memory.
 */
export type Loader = () => Promise<DriverModule>;

export type DriverRegistry = ReadonlyMap<DriverName, Loader>;

export const driverRegistry: DriverRegistry = new Map<DriverName, Loader>([
  ['ebpf', async () => (await import('./ebpf/module.ts')).ebpf],
  ['nftables', async () => (await import('./nftables/module.ts')).nftables],
  ['ipvs', async () => (await import('./ipvs/module.ts')).ipvs],
  ['iptables', async () => (await import('./iptables/module.ts')).iptables],
  ['fake', async () => fakeModule(new FakeKernel())],
]);

/**
 * What `--driver auto` tries, in this order. IPVS is run only when it is asked for by name: it needs modules that are going
 * away upstream (KEP-5495), and does nothing that the others do not.
 */
export const autoOrder: readonly DriverName[] = ['ebpf', 'nftables', 'iptables'];

/** No driver can run here; the message says what each one lacks. */
export class NoDriverError extends Error {
  override readonly name = 'NoDriverError';
}

/** @throws NoDriverError */
export async function chooseDriver(
  registry: DriverRegistry,
  wanted: DriverName | 'auto',
  optionsFor: (name: DriverName) => DriverOptions,
): Promise<DriverModule> {
  const lacks: string[] = [];
  for (const name of wanted === 'auto' ? autoOrder : [wanted]) {
    const module = await registry.get(name)?.();
    if (!module) {
      lacks.push(`${name}: is not part of this build`);
      continue;
    }
    const options = optionsFor(name);
    const probe = await module.probe(options);
    if (probe.t === 'able') {
      options.logger.info({ driver: name, details: probe.details }, 'driver chosen');
      return module;
    }
    options.logger.info({ driver: name, lacks: probe.lacks }, 'driver cannot run here');
    lacks.push(...probe.lacks.map((lack) => `${name}: ${lack}`));
  }
  throw new NoDriverError(
    `${wanted === 'auto' ? 'no driver can run on this machine' : `the ${wanted} driver cannot run on this machine`}: ${lacks.join('; ')}`,
  );
}

export type Cleanup =
  | { readonly t: 'clean'; readonly driver: DriverName }
  | { readonly t: 'not-here'; readonly driver: DriverName; readonly lacks: readonly string[] }
  | { readonly t: 'failed'; readonly driver: DriverName; readonly error: unknown };

/** Removes what these drivers have left in the kernel. One that fails does not keep the others from being cleaned. */
export async function cleanUpDrivers(
  registry: DriverRegistry,
  options: (name: DriverName) => DriverOptions,
  drivers: readonly DriverName[],
): Promise<readonly Cleanup[]> {
  const results: Cleanup[] = [];
  for (const driver of drivers) {
    const load = registry.get(driver);
    if (load) results.push(await cleanUp(driver, load, options(driver)));
  }
  return results;
}

async function cleanUp(driver: DriverName, load: Loader, options: DriverOptions): Promise<Cleanup> {
  try {
    const module = await load();
    const probe: Probe = await module.probe(options);
    if (probe.t === 'unable') return { t: 'not-here', driver, lacks: probe.lacks };
    const opened = await module.open(options);
    await opened.cleanup();
    await opened.close();
    return { t: 'clean', driver };
  } catch (error) {
    return { t: 'failed', driver, error };
  }
}
