import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';

/**
 * One file of --state-dir. It is replaced by rename, so that it is always whole; it is written in the background, one write after another, and of
 * several that wait the newest is written.
 */
export class StateFile {
  /** As found at the start; null: there was none. */
  readonly text: string | null;
  readonly #directory: string;
  readonly #name: string;
  readonly #logger: Logger;
  #next: (() => string) | null = null;
  #writing: Promise<void> | null = null;

  private constructor(directory: string, name: string, text: string | null, logger: Logger) {
    this.#directory = directory;
    this.#name = name;
    this.text = text;
    this.#logger = logger;
  }

  /** Makes the directory if need be. */
  static async open(directory: string, name: string, logger: Logger): Promise<StateFile> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    return new StateFile(directory, name, await readOrNull(join(directory, name)), logger);
  }

  /** What was found cannot be understood: it is kept for people, under another name. */
  async putAside(meaning: string): Promise<void> {
    const path = join(this.#directory, this.#name);
    await rename(path, `${path}.bad`);
    this.#logger.error({ path: `${path}.bad` }, `${this.#name} cannot be read and was put aside: ${meaning}`);
  }

  /** `format` is called when the write begins. */
  save(format: () => string): void {
    this.#next = format;
    this.#writing ??= this.#writeAll();
  }

  /** Resolves when all that was saved is on disk, or could not be written, which was logged. */
  async flushed(): Promise<void> {
    await this.#writing;
  }

  async #writeAll(): Promise<void> {
    while (this.#next) {
      const text = this.#next();
      this.#next = null;
      try {
        await this.#replace(text);
      } catch (error) {
        // What is in memory stays right; the next change writes all of it again.
        this.#logger.error(
          { err: error, directory: this.#directory },
          `${this.#name} could not be written; see that the disk has room`,
        );
      }
    }
    this.#writing = null;
  }

  async #replace(text: string): Promise<void> {
    const path = join(this.#directory, this.#name);
    const temporary = `${path}.new`;
    const file = await open(temporary, 'w', 0o600);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    const parent = await open(this.#directory, 'r');
    try {
      await parent.sync();
    } finally {
      await parent.close();
    }
  }
}

/** Null: the text is no JSON object of this version. */
export function parseState(text: string, version: number): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(text);
    return isRecord(value) && value['version'] === version ? value : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

export const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

async function readOrNull(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
}
