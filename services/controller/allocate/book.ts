import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { canonicalIp } from '@octoplane/model/address.ts';
import type { ServiceName } from '@octoplane/model/keys.ts';
import type { Logger } from 'pino';
import type { Allocation, Allocations } from './allocator.ts';

const fileName = 'allocations.json';

/**
 * The allocations on disk, so that a Service keeps its addresses for life. The file is replaced by rename, so that it is always whole; what
 * is lost with it are only the choices between Services whose names lead to the same address (allocator.ts).
 */
export class AllocationBook {
  /** As found at the start. */
  readonly allocations: Allocations;
  readonly #directory: string;
  readonly #logger: Logger;
  #next: Allocations | null = null;
  #writing: Promise<void> | null = null;

  private constructor(directory: string, allocations: Allocations, logger: Logger) {
    this.#directory = directory;
    this.allocations = allocations;
    this.#logger = logger;
  }

  /** Makes the directory if need be. A file that cannot be understood is put aside, and reported. */
  static async open(directory: string, logger: Logger): Promise<AllocationBook> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const path = join(directory, fileName);
    const text = await readOrNull(path);
    const allocations = text === null ? new Map() : parseAllocations(text);
    if (allocations === null) {
      await rename(path, `${path}.bad`);
      logger.error(
        { path: `${path}.bad` },
        'the allocations on disk cannot be read and were put aside: some addresses may change',
      );
    }
    return new AllocationBook(directory, allocations ?? new Map(), logger);
  }

  /** Writes in the background, one after another; of several that wait the newest is written. */
  save(allocations: Allocations): void {
    this.#next = new Map(allocations);
    this.#writing ??= this.#writeAll();
  }

  /** Resolves when all that was saved is on disk, or could not be written, which was logged. */
  async flushed(): Promise<void> {
    await this.#writing;
  }

  async #writeAll(): Promise<void> {
    while (this.#next) {
      const allocations = this.#next;
      this.#next = null;
      try {
        await replaceFile(this.#directory, formatAllocations(allocations));
      } catch (error) {
        // The allocations in memory stay right; the next change writes all of them again.
        this.#logger.error(
          { err: error, directory: this.#directory },
          'the allocations could not be written; see that the disk has room',
        );
      }
    }
    this.#writing = null;
  }
}

async function readOrNull(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
}

async function replaceFile(directory: string, text: string): Promise<void> {
  const path = join(directory, fileName);
  const temporary = `${path}.new`;
  const file = await open(temporary, 'w', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  const parent = await open(directory, 'r');
  try {
    await parent.sync();
  } finally {
    await parent.close();
  }
}

export const formatAllocations = (allocations: Allocations): string =>
  `${JSON.stringify({ version: 1, services: Object.fromEntries([...allocations].sort()) }, null, 1)}\n`;

/** Null when the text is not of this form; nothing of a damaged file is believed. */
export function parseAllocations(text: string): Allocations | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
  if (!isRecord(value) || value['version'] !== 1 || !isRecord(value['services'])) return null;
  const allocations = new Map<ServiceName, Allocation>();
  for (const [name, allocation] of Object.entries(value['services'])) {
    if (!isAllocation(allocation)) return null;
    allocations.set(name as ServiceName, allocation);
  }
  return allocations;
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

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
