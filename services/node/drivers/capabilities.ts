import { readFileSync } from 'node:fs';
import type { DriverOptions, Probe } from './driver.ts';

/** Those that drivers need, with their numbers (linux/capability.h). */
const numbers = { NET_ADMIN: 12, SYS_ADMIN: 21 } as const;
export type Capability = keyof typeof numbers;

/** Which of these this process lacks (capabilities(7)). Being user 0 is no answer: containers take most of them from it. */
export function missingCapabilities(
  wanted: readonly Capability[],
  status = readFileSync('/proc/self/status', 'utf8'),
): readonly Capability[] {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  return wanted.filter((name) => ((effective >> BigInt(numbers[name])) & 1n) === 0n);
}

/** A probe that asks for these first: without them the kernel answers every other question with a plain "not permitted". */
export function needing(
  wanted: readonly Capability[],
  probe: (options: DriverOptions) => Promise<Probe>,
): (options: DriverOptions) => Promise<Probe> {
  return async (options) => {
    const missing = missingCapabilities(wanted).map((name) => `CAP_${name}`);
    if (missing.length === 0) return probe(options);
    const them = missing.length === 1 ? 'it' : 'them';
    return { t: 'unable', lacks: [`this process lacks ${missing.join(' and ')}: run as root, or grant ${them}`] };
  };
}
