/**
 * Reading untrusted objects field by field. Nothing throws: what is wrong is collected with its place, so that one reading of
 * an object names all that is wrong with it.
 */

/** Where in an object: ['spec', 'ports', 0, 'port']. */
export type Path = readonly (string | number)[];

export interface Problem {
  readonly path: Path;
  /** What is wrong: "70000 is not a port". */
  readonly reason: string;
  /** What to do about it: "use 1 to 65535". */
  readonly remedy: string;
}

/** "spec.ports[0].port". */
export const formatPath = (path: Path): string =>
  path.reduce<string>(
    (text, step) => (typeof step === 'number' ? `${text}[${step}]` : text === '' ? step : `${text}.${step}`),
    '',
  );

/** "spec.ports[0].port: 70000 is not a port; use 1 to 65535". */
export function formatProblem(problem: Problem): string {
  const place = problem.path.length === 0 ? '' : `${formatPath(problem.path)}: `;
  return `${place}${problem.reason}; ${problem.remedy}`;
}

/** A mapping of an untrusted document. */
export type Fields = Readonly<Record<string, unknown>>;

export const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const noFields: Fields = {};
const noList: readonly unknown[] = [];

/** Absent and null are the same, as in the Kubernetes API. */
export class Findings {
  /** Each of them refuses the object. */
  readonly problems: Problem[] = [];
  /** Worth a word, and no more. */
  readonly warnings: Problem[] = [];

  refuse(path: Path, reason: string, remedy: string): void {
    this.problems.push({ path, reason, remedy });
  }

  warn(path: Path, reason: string, remedy: string): void {
    this.warnings.push({ path, reason, remedy });
  }

  /** A mapping; empty when absent. */
  fields(parent: Fields, key: string, path: Path): Fields {
    const value = parent[key] ?? noFields;
    if (isFields(value)) return value;
    this.refuse([...path, key], `${describe(value)} stands where a mapping belongs`, 'write "key: value" pairs');
    return noFields;
  }

  /** A list; empty when absent. */
  list(parent: Fields, key: string, path: Path): readonly unknown[] {
    const value = parent[key] ?? noList;
    if (Array.isArray(value)) return value;
    this.refuse([...path, key], `${describe(value)} stands where a list belongs`, 'write one "- " per item');
    return noList;
  }

  /** An item of a list that must be a mapping. */
  item(value: unknown, path: Path): Fields {
    if (isFields(value)) return value;
    this.refuse(path, `${describe(value)} stands where a mapping belongs`, 'write "key: value" pairs');
    return noFields;
  }

  /** A text; empty when absent. */
  text(parent: Fields, key: string, path: Path): string {
    const value = parent[key] ?? '';
    if (typeof value === 'string') return value;
    this.refuse([...path, key], `${describe(value)} stands where a text belongs`, 'put it in quotes');
    return '';
  }

  flag(parent: Fields, key: string, path: Path): boolean | null {
    const value = parent[key] ?? null;
    if (value === null || typeof value === 'boolean') return value;
    this.refuse([...path, key], `${describe(value)} is neither true nor false`, 'use true or false, without quotes');
    return null;
  }

  /** A whole number within bounds, or null when absent or refused. `what` reads as "70000 is not WHAT". */
  number(parent: Fields, key: string, path: Path, min: number, max: number, what: string): number | null {
    const value = parent[key] ?? null;
    if (value === null) return null;
    if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
    this.refuse([...path, key], `${describe(value)} is not ${what}`, `use a whole number from ${min} to ${max}`);
    return null;
  }

  /** One of a few words; the fallback when absent or refused. */
  choice<T extends string>(parent: Fields, key: string, path: Path, choices: readonly T[], fallback: T): T {
    const value = parent[key] ?? fallback;
    const choice = choices.find((word) => word === value);
    if (choice !== undefined) return choice;
    this.refuse([...path, key], `${describe(value)} is unknown`, `use one of ${choices.join(', ')}`);
    return fallback;
  }

  /** Typos matter to people who write manifests by hand. */
  warnUnknown(fields: Fields, known: ReadonlySet<string>, path: Path): void {
    for (const key in fields) {
      if (!known.has(key)) this.warn([...path, key], 'the field is unknown and ignored', 'check its spelling');
    }
  }
}

/** Absent, null or without items; what is no list at all is reported by Findings.list. */
export const isEmptyList = (value: unknown): boolean => {
  const list = value ?? noList;
  return Array.isArray(list) && list.length === 0;
};

/** A value as it may stand in a message: short, and on one line. */
export function describe(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`;
}
