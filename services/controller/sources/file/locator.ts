import { formatPath, type Path } from '@octoplane/model/findings.ts';
import { type DocumentText, locate } from './documents.ts';

/** Characters that may be walked over, per file, to find lines and columns: enough for a hundred places in a large List. */
const budget = 64 * 1024 * 1024;

/** Puts file, line and column to what is wrong. Where that is wrong in too many places, the rest are named by their paths. */
export class Locator {
  readonly #file: string;
  #left = budget;

  constructor(file: string) {
    this.#file = file;
  }

  /** "web.yaml:12:3". */
  of(document: DocumentText): (value: number, path: Path) => string {
    return (value, path) => {
      this.#left -= document.text.length;
      if (this.#left < 0) return `${this.#file}:${document.line + 1}:1 ${formatPath(path)}`;
      const { line, column } = locate(document, value, path);
      return `${this.#file}:${line}:${column}`;
    };
  }
}
