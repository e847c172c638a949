import { readFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { parse } from 'yaml';
import {
  choice,
  fields,
  flag,
  listOf,
  matching,
  number,
  oneOf,
  oneOrMore,
  record,
  ShapeError,
  said,
  text,
} from './shape.ts';

/**
 * A scenario is a story that an operator understands: Services and endpoints come, change and go, and clients in pods, on
 * nodes and outside see what they see. It says nothing about drivers; every driver must tell the same story, in both
 * families. test/scenarios/README.md explains the words.
 */
const transport = oneOf('TCP', 'UDP', 'SCTP');

/** Exactly one of the outcomes is given; parseScenario checks that. */
const expectation = fields(
  { from: oneOrMore(text), to: oneOrMore(text) },
  {
    over: oneOrMore(transport),
    via: text,
    connected: flag,
    bindPort: number,
    bytes: number,
    reaches: oneOrMore(text),
    reachesOneOf: oneOrMore(text),
    evenly: said,
    remember: text,
    movedSince: text,
    source: text,
    refused: said,
    dropped: said,
    fails: said,
  },
);

const outcomes = ['reaches', 'reachesOneOf', 'refused', 'dropped', 'fails'] as const;

const endpoint = fields(
  { pod: text },
  {
    ready: flag,
    serving: flag,
    terminating: flag,
    zone: text,
    zoneHints: listOf(text),
    nodeHints: listOf(text),
    node: text,
  },
);

const endpoints = fields(
  { of: text, pods: listOf((value, at) => (typeof value === 'string' ? { pod: value } : endpoint(value, at))) },
  {
    slice: text,
    ports: listOf(fields({ port: number }, { name: text, protocol: transport })),
    except: oneOrMore(text),
    unready: oneOrMore(text),
    families: listOf(oneOf('IPv4', 'IPv6')),
    labels: record,
    serve: flag,
  },
);

const step = choice({
  apply: oneOrMore(record),
  endpoints: oneOrMore(endpoints),
  remove: oneOrMore(matching(/^[A-Z][A-Za-z]+\/[a-z0-9-]+$/, 'KIND/NAME')),
  expect: oneOrMore(expectation),
  ping: oneOrMore(fields({ from: oneOrMore(text), to: text, is: oneOf('replied', 'rejected', 'silent') }, {})),
  open: fields({ flow: text, from: text, to: text }, { over: transport, bindPort: number, connected: flag }),
  ask: fields({ flow: text }, { reaches: oneOrMore(text), fails: said, remember: text }),
  close: text,
  serve: fields({ at: text, port: number }, { over: transport, as: text, ip: text }),
  http: fields({ from: text, get: text, status: number }, { body: record, headers: record }),
  nobodyListens: fields({ on: text, port: number }, {}),
  golden: said,
  restart: oneOrMore(text),
  sysctl: fields({ on: text, name: text }, { is: number, atLeast: number }),
  idle: fields({ seconds: number, why: text }, {}),
});

const scenario = fields(
  {
    title: text,
    covers: listOf(matching(/^P([1-9]|[1-4][0-9]|5[0-4])$/, 'a row of the parity table, P1 to P54')),
    steps: listOf(step),
  },
  {
    /** End-to-end tests of Kubernetes that this tells. */
    cases: listOf(text),
    /** `each`: once for IPv4 and once for IPv6. `both`: once, with both. Default each. */
    families: oneOf('each', 'both'),
    /** Flags that the node daemons are started with. */
    nodeFlags: listOf(text),
    /** Drivers that cannot tell it, or "DRIVER FAMILY", each with the reason; goes to the driver matrix. */
    exceptions: record,
  },
);

export type Scenario = Omit<ReturnType<typeof scenario>, 'exceptions'> & {
  readonly name: string;
  readonly dir: string;
  readonly exceptions: Readonly<Record<string, string>>;
};
export type Step = Scenario['steps'][number];
export type Expectation = ReturnType<typeof expectation>;
export type EndpointsSpec = ReturnType<typeof endpoints>;
export type StepOf<T extends Step['t']> = Extract<Step, { readonly t: T }>['value'];

/** @throws ShapeError with the file and the place in it */
export function parseScenario(file: string, source: string): Scenario {
  const dir = dirname(file);
  const name = basename(dir);
  let value: unknown;
  try {
    value = parse(source, { prettyErrors: true });
  } catch (error) {
    throw new ShapeError(`${file}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
  const { exceptions = {}, ...parsed } = scenario(value, name);
  for (const [i, each] of parsed.steps.entries())
    if (each.t === 'expect') for (const one of each.value) checkOutcome(one, `${name}.steps[${i}]`);
  const reasons = Object.entries(exceptions).map(([driver, reason]) => [
    driver,
    text(reason, `${name}.exceptions.${driver}`),
  ]);
  return { ...parsed, name, dir, exceptions: Object.fromEntries(reasons) };
}

export const readScenario = (file: string): Scenario => parseScenario(file, readFileSync(file, 'utf8'));

function checkOutcome(expected: Expectation, at: string): void {
  const given = outcomes.filter((name) => expected[name] !== undefined);
  if (given.length !== 1)
    throw new ShapeError(
      `${at}: an expectation has exactly one of ${outcomes.join(', ')}; found ${given.join(', ') || 'none'}`,
    );
  for (const name of ['remember', 'movedSince'] as const)
    if (expected[name] !== undefined && expected.reachesOneOf === undefined)
      throw new ShapeError(`${at}: "${name}" goes with "reachesOneOf"`);
}
