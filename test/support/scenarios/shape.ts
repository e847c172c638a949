/**
 * Checks of parsed YAML against a shape, with messages for the person who wrote it: the place, what is there, what was
 * expected, and the name that was probably meant.
 */
export class ShapeError extends Error {
  override readonly name = 'ShapeError';
}

/** Turns an unknown value into a T, or throws a ShapeError that begins with `at`. */
export type Shape<T> = (value: unknown, at: string) => T;

export const text: Shape<string> = (value, at) => {
  if (typeof value === 'string' && value !== '') return value;
  if (typeof value === 'number') return String(value);
  throw wrong(value, at, 'text');
};

export const number: Shape<number> = (value, at) => {
  if (typeof value === 'number') return value;
  throw wrong(value, at, 'a number');
};

export const flag: Shape<boolean> = (value, at) => {
  if (typeof value === 'boolean') return value;
  throw wrong(value, at, 'true or false');
};

/** Present, and true: a name that is there to be said. */
export const said: Shape<true> = (value, at) => {
  if (value === true) return true;
  throw wrong(value, at, 'true');
};

export const anything: Shape<unknown> = (value) => value;

export const record: Shape<Readonly<Record<string, unknown>>> = (value, at) => {
  if (isRecord(value)) return value;
  throw wrong(value, at, 'a mapping');
};

export const oneOf =
  <const T extends string>(...values: readonly T[]): Shape<T> =>
  (value, at) => {
    const found = values.find((each) => each === value);
    if (found === undefined) throw wrong(value, at, `one of ${values.join(', ')}`);
    return found;
  };

export const matching =
  (form: RegExp, meaning: string): Shape<string> =>
  (value, at) => {
    const found = text(value, at);
    if (!form.test(found)) throw wrong(value, at, meaning);
    return found;
  };

export const listOf =
  <T>(shape: Shape<T>): Shape<readonly T[]> =>
  (value, at) => {
    if (!Array.isArray(value)) throw wrong(value, at, 'a list');
    return value.map((each, i) => shape(each, `${at}[${i}]`));
  };

/** A list, or one value that stands for a list of it. */
export const oneOrMore =
  <T>(shape: Shape<T>): Shape<readonly T[]> =>
  (value, at) =>
    Array.isArray(value) ? listOf(shape)(value, at) : [shape(value, at)];

type Fields = Readonly<Record<string, Shape<unknown>>>;
type Values<F extends Fields> = { readonly [K in keyof F]: ReturnType<F[K]> };

/** A mapping with these fields and no others. */
export const fields =
  <R extends Fields, O extends Fields>(required: R, optional: O): Shape<Values<R> & Partial<Values<O>>> =>
  (value, at) => {
    if (!isRecord(value)) throw wrong(value, at, `a mapping with ${Object.keys(required).join(', ') || 'fields'}`);
    const known = { ...required, ...optional };
    for (const name of Object.keys(value))
      if (!Object.hasOwn(known, name))
        throw new ShapeError(`${at}: "${name}" is not known; ${suggestion(name, Object.keys(known))}`);
    for (const name of Object.keys(required))
      if (!Object.hasOwn(value, name)) throw new ShapeError(`${at}: "${name}" is missing`);
    const entries = Object.entries(value).map(([name, each]) => [name, known[name]?.(each, `${at}.${name}`)]);
    return Object.fromEntries(entries) as Values<R> & Partial<Values<O>>;
  };

type Choice<C extends Fields> = { [K in keyof C]: { readonly t: K; readonly value: ReturnType<C[K]> } }[keyof C];

/** A mapping with exactly one of these fields. */
export const choice =
  <C extends Fields>(choices: C): Shape<Choice<C>> =>
  (value, at) => {
    const names = Object.keys(choices);
    const [name, ...more] = isRecord(value) ? Object.keys(value) : [];
    if (!isRecord(value) || name === undefined || more.length > 0) throw wrong(value, at, `one of ${names.join(', ')}`);
    const shape = choices[name];
    if (shape === undefined) throw new ShapeError(`${at}: "${name}" is not known; ${suggestion(name, names)}`);
    return { t: name, value: shape(value[name], `${at}.${name}`) } as Choice<C>;
  };

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function wrong(value: unknown, at: string, expected: string): ShapeError {
  const shown = value === undefined ? 'nothing' : JSON.stringify(value);
  return new ShapeError(`${at}: expected ${expected}, found ${shown.length > 80 ? `${shown.slice(0, 77)}...` : shown}`);
}

function suggestion(name: string, known: readonly string[]): string {
  const close = known.find((each) => distance(each, name) <= 2);
  return close ? `did you mean "${close}"?` : `known are ${known.join(', ')}`;
}

/** Levenshtein's. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1];
    for (const [j, other] of [...b].entries())
      next.push(Math.min((row[j] ?? 0) + (letter === other ? 0 : 1), (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    row = next;
  }
  return row[b.length] ?? 0;
}
