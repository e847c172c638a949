import { canonicalIp } from '@octoplane/model/address.ts';
import type { ServiceName } from '@octoplane/model/keys.ts';
import type { Logger } from 'pino';
import { isRecord, parseState, StateFile } from '../state-file.ts';
import type { Allocation, Allocations } from './allocator.ts';

/**
 * The allocations on disk, so that a Service keeps its addresses for life. What is lost with the file are only the choices between Services
 * whose names lead to the same address (allocator.ts).
 */
export class AllocationBook {
  /** As found at the start. */
  readonly allocations: Allocations;
  readonly #file: StateFile;

  private constructor(file: StateFile, allocations: Allocations) {
    this.#file = file;
    this.allocations = allocations;
  }

  /** A file that cannot be understood is put aside, and reported. */
  /** `of` null: the only cluster, or the first. */
  static async open(directory: string, logger: Logger, of: string | null = null): Promise<AllocationBook> {
    const file = await StateFile.open(directory, of === null ? 'allocations.json' : `allocations-${of}.json`, logger);
    const allocations = file.text === null ? new Map() : parseAllocations(file.text);
    if (allocations === null) await file.putAside('some addresses may change');
    return new AllocationBook(file, allocations ?? new Map());
  }

  save(allocations: Allocations): void {
    const copy = new Map(allocations);
    this.#file.save(() => formatAllocations(copy));
  }

  /** Resolves when all that was saved is on disk, or could not be written, which was logged. */
  flushed(): Promise<void> {
    return this.#file.flushed();
  }
}

export const formatAllocations = (allocations: Allocations): string =>
  `${JSON.stringify({ version: 1, services: Object.fromEntries([...allocations].sort()) }, null, 1)}\n`;

/** Null when the text is not of this form; nothing of a damaged file is believed. */
export function parseAllocations(text: string): Allocations | null {
  const services = parseState(text, 1)?.['services'];
  if (!isRecord(services)) return null;
  const allocations = new Map<ServiceName, Allocation>();
  for (const [name, allocation] of Object.entries(services)) {
    if (!isAllocation(allocation)) return null;
    allocations.set(name as ServiceName, allocation);
  }
  return allocations;
}

const isPort = (value: unknown): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 65_535;

function isAllocation(value: unknown): value is Allocation {
  if (!isRecord(value)) return false;
  const { clusterIps, nodePorts, healthCheckNodePort } = value;
  return (
    Array.isArray(clusterIps) &&
    clusterIps.every((ip) => typeof ip === 'string' && canonicalIp(ip) === ip) &&
    isRecord(nodePorts) &&
    Object.entries(nodePorts).every(([id, port]) => /^\d{1,5}\/(TCP|UDP|SCTP)$/.test(id) && isPort(port)) &&
    isPort(healthCheckNodePort)
  );
}
