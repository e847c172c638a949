import { mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** The parts of a manifest that name it. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

/** The directory of a `file` source, with a file for every object, written by rename so that no reader sees a half. */
export class SourceDir {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
    mkdirSync(path, { recursive: true });
  }

  put(manifest: Manifest): void {
    this.write(fileName(manifest.kind, manifest.metadata.name), `${JSON.stringify(manifest, null, 2)}\n`);
  }

  remove(kind: string, name: string): void {
    rmSync(join(this.path, fileName(kind, name)));
  }

  /** Any text under any name. */
  write(file: string, text: string): void {
    const temporary = join(this.path, `.${file}.new`);
    writeFileSync(temporary, text);
    renameSync(temporary, join(this.path, file));
  }

  /** How far a reader of all this has read: the newest modification of the directory or a file in it, in microseconds. */
  revision(): number {
    const files = readdirSync(this.path, { withFileTypes: true }).filter((entry) => entry.isFile());
    const paths = [this.path, ...files.map(({ name }) => join(this.path, name))];
    return Math.max(...paths.map((path) => Number(statSync(path, { bigint: true }).mtimeNs / 1000n)));
  }
}

const fileName = (kind: string, name: string): string => `${kind.toLowerCase()}-${name}.json`;
