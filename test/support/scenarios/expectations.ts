import type { Ip } from '@octoplane/model/address.ts';
import type { Family } from '@octoplane/model/keys.ts';
import type { Lab } from '../lab/lab.ts';
import { describeOutcome, type Outcome } from '../lab/outcome.ts';
import { secondAddress } from '../lab/plan.ts';
import type { Tally } from '../lab/verbs.ts';
import type { Expectation } from './scenario.ts';
import { parseTarget, type Words } from './words.ts';

/**
 * How long silence is listened to before it counts as silence. Long against everything that answers here (a millisecond),
 * short against a SYN's retransmission: a first packet that is dropped is what "dropped" means.
 */
export const silenceMs = 400;

/** One client, one address, one protocol of an expectation. */
interface Attempt {
  readonly from: string;
  readonly ip: string;
  readonly port: number;
  readonly transport: 'TCP' | 'UDP' | 'SCTP';
}

/** Checks an expectation whose words are expanded; resolves to what was wrong, in sentences. */
export async function checkExpectation(lab: Lab, expected: Expectation, words: Words): Promise<string[]> {
  const attempts = expected.from.flatMap((from) =>
    expected.to.flatMap((to) =>
      (expected.over ?? ['TCP']).map((transport): Attempt => ({ from, transport, ...parseTarget(to) })),
    ),
  );
  const before = new Map(words);
  const problems = await Promise.all(attempts.map((attempt) => checkAttempt(lab, attempt, expected, words)));
  const { movedSince } = expected;
  if (movedSince !== undefined && !expected.from.some((from) => hasMoved(before, words, `${movedSince}-${from}`)))
    return [`nobody of ${expected.from.join(', ')} reaches another server than before`];
  return problems.flatMap((problem, i) => {
    const attempt = attempts[i];
    if (problem === null || !attempt) return [];
    return [`${attempt.from} to ${attempt.ip} port ${attempt.port} over ${attempt.transport}: ${problem}`];
  });
}

async function checkAttempt(lab: Lab, attempt: Attempt, expected: Expectation, words: Words): Promise<string | null> {
  const options = {
    transport: attempt.transport,
    ...(expected.connected !== undefined && { connected: expected.connected }),
    ...(expected.bindPort !== undefined && { bindPort: expected.bindPort }),
    ...(expected.bytes !== undefined && { bytes: expected.bytes }),
  };
  const { from, ip, port } = attempt;
  if (expected.reaches || expected.reachesOneOf) {
    const wanted = expected.reaches ?? [];
    const tally = await lab.dialMany(from, ip, port, { ...options, ...effort(expected) });
    return (
      (expected.reaches
        ? wrongSpread(tally, wanted, expected.evenly ?? false)
        : wrongChoice(from, tally, expected, words)) ?? wrongSource(lab, attempt, tally, expected.source)
    );
  }
  const timeoutMs = expected.refused ? undefined : silenceMs;
  // A connected UDP socket is told of a refusal by ICMP, as an application would be.
  const connected = attempt.transport === 'UDP' ? { connected: true } : {};
  const outcome = await lab.dial(from, ip, port, { ...connected, ...options, ...(timeoutMs && { timeoutMs }) });
  return failsAs(outcome, expected)
    ? null
    : `expected to be ${describeFailure(expected)}, but: ${describeOutcome(outcome)}`;
}

/**
 * How often to dial. Of n equally likely servers, one is missed in 200 n attempts with a chance of e^-200; one too many is
 * missed in 8 n + 8 attempts with 1 in 2,900 at worst, and it was not expected in any of many scenarios.
 */
function effort(expected: Expectation): { until: readonly string[]; atLeast: number; atMost: number } {
  const until = expected.reaches ?? [];
  if (until.length === 0) return { until, atLeast: 8, atMost: 8 };
  const n = until.length;
  return { until, atLeast: expected.evenly ? 60 * n : 8 * n + 8, atMost: 200 * n };
}

function wrongSpread(tally: Tally, wanted: readonly string[], evenly: boolean): string | null {
  if (tally.failures.length > 0) return describeTally(tally, wanted);
  const missing = wanted.filter((name) => !tally.answers[name]);
  const others = Object.keys(tally.answers).filter((name) => !wanted.includes(name));
  if (missing.length > 0 || others.length > 0) return describeTally(tally, wanted);
  const mean = tally.attempts / wanted.length;
  // Half of the mean either way is more than four standard deviations.
  const uneven = wanted.some((name) => Math.abs((tally.answers[name] ?? 0) - mean) > mean / 2);
  return evenly && uneven ? `not spread evenly: ${JSON.stringify(tally.answers)}` : null;
}

const hasMoved = (before: Words, now: Words, word: string): boolean => before.get(word) !== now.get(word);

/** A remembered server is known by the word alone, and by the word and the client for those that have several clients. */
function wrongChoice(from: string, tally: Tally, expected: Expectation, words: Words): string | null {
  const { reachesOneOf = [], remember = expected.movedSince } = expected;
  const [chosen, ...more] = Object.keys(tally.answers);
  if (tally.failures.length > 0 || chosen === undefined || more.length > 0 || !reachesOneOf.includes(chosen))
    return describeTally(tally, [`always the same of ${reachesOneOf.join(', ')}`]);
  if (remember) words.set(remember, chosen).set(`${remember}-${from}`, chosen);
  return null;
}

/** kept: the client's own address; masqueraded: another; otherwise a place: that place's. */
function wrongSource(lab: Lab, { from, ip }: Attempt, tally: Tally, source: string | undefined): string | null {
  if (source === undefined) return null;
  const family = ip.includes(':') ? 'IPv6' : 'IPv4';
  const own = lab.place(from).addresses[family];
  const isRight = (seen: string): boolean => {
    if (source === 'kept') return seen === own;
    return source === 'masqueraded' ? seen !== own : addressesOf(lab, source, family).includes(seen);
  };
  return tally.seenAs.every(isRight)
    ? null
    : `expected the source ${source}, but the servers saw ${tally.seenAs.join(', ')}`;
}

/** A node masquerades with whichever of its addresses the kernel likes best for the way out. */
const addressesOf = (lab: Lab, place: string, family: Family): readonly Ip[] => {
  const own = lab.place(place).addresses[family];
  const i = lab.nodes.findIndex(({ name }) => name === place);
  return i < 0 ? [own] : [own, secondAddress(i + 1)[family]];
};

function failsAs(outcome: Outcome, expected: Expectation): boolean {
  if (expected.refused) return outcome.t === 'refused';
  return expected.dropped ? outcome.t === 'timedOut' : outcome.t !== 'answered';
}

const describeFailure = (expected: Expectation): string =>
  expected.refused ? 'refused' : expected.dropped ? 'dropped' : 'without an answer';

function describeTally(tally: Tally, wanted: readonly string[]): string {
  const reached = Object.entries(tally.answers).map(([name, times]) => `${name} ${times} times`);
  const [failure] = tally.failures;
  return `expected ${wanted.join(', ')}; reached ${reached.join(', ') || 'nobody'} in ${tally.attempts} attempts${
    failure ? `; ${describeOutcome(failure)}` : ''
  }`;
}
