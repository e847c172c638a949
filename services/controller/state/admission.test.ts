import { type ServiceName, serviceName } from '@octoplane/model/keys.ts';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Admission, type Rank } from './admission.ts';

interface Contender {
  readonly rank: Rank;
  readonly claims: readonly string[];
}

const names = ['a', 'b', 'c', 'd', 'e'].map((name) => serviceName('default', name));

/** The definition: one after another in the order of their ranks. */
function admittedByDefinition(contenders: ReadonlyMap<ServiceName, Contender>): readonly ServiceName[] {
  const order = [...contenders].sort(([a, x], [b, y]) =>
    x.rank.createdAtMs === y.rank.createdAtMs
      ? x.rank.round - y.rank.round || x.rank.source - y.rank.source || (a < b ? -1 : 1)
      : x.rank.createdAtMs - y.rank.createdAtMs,
  );
  const held = new Set<string>();
  const admitted: ServiceName[] = [];
  for (const [name, { claims }] of order) {
    if (claims.some((claim) => held.has(claim))) continue;
    for (const claim of claims) held.add(claim);
    admitted.push(name);
  }
  return admitted.sort();
}

const contender: fc.Arbitrary<Contender> = fc.record({
  rank: fc.record({
    createdAtMs: fc.constantFrom(1, 2, Infinity),
    round: fc.constantFrom(0, 1),
    source: fc.constantFrom(0, 1),
  }),
  claims: fc.subarray(['p', 'q', 'r', 's']),
});

test('what is admitted is a function of the contenders alone, and changes of verdict are told', () => {
  const step = fc.record({
    name: fc.constantFrom(...names),
    next: fc.option(contender, { freq: 4 }),
    settle: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40, size: 'max' }), (steps) => {
      const admission = new Admission();
      const contenders = new Map<ServiceName, Contender>();
      const told = new Map(names.map((name) => [name, 'null']));
      const touched = new Set<ServiceName>();
      for (const { name, next, settle } of steps) {
        admission.replace(name, next);
        touched.add(name);
        if (next) contenders.set(name, next);
        else contenders.delete(name);
        if (!settle) continue;
        const turned = admission.settle();
        const admitted = names.filter((candidate) => admission.verdict(candidate)?.t === 'admitted').sort();
        expect(admitted).toEqual(admittedByDefinition(contenders));
        for (const candidate of names) {
          const verdict = JSON.stringify(admission.verdict(candidate));
          if (!touched.has(candidate) && told.get(candidate) !== verdict) expect(turned).toContain(candidate);
          told.set(candidate, verdict);
        }
        touched.clear();
      }
    }),
    { numRuns: 500 },
  );
});

test('a claim is free when nobody else names it, admitted or not', () => {
  const admission = new Admission();
  const [a, b] = names;
  if (!a || !b) throw new Error('names');
  admission.replace(a, { rank: { createdAtMs: 1, round: 0, source: 0 }, claims: ['p'] });
  expect(admission.isFree('p', a)).toBe(true);
  expect(admission.isFree('p', b)).toBe(false);
  expect(admission.isFree('q', b)).toBe(true);
});
