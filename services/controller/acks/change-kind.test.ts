import { nodeName } from '@octoplane/model/keys.ts';
import { endpointFlags } from '@octoplane/model/rule-set.ts';
import { expect, test } from 'vitest';
import { entry, serviceKey } from '../../../test/support/stub-nodes/entries.ts';
import type { Batch } from '../compute/batch.ts';
import { kindOf } from './change-kind.ts';

type Side = ReturnType<typeof entry> | null;
const nothing: Batch = { classes: new Map(), overlays: new Map(), moved: [], causes: [], inputs: [] };
const inClass = (...sides: [Side, Side][]): Batch => ({
  ...nothing,
  classes: new Map([['a', sides.map(([before, after], i) => ({ key: serviceKey(i), before, after }))]]),
});
const drained = (which: number) => {
  const one = entry(1, [1, 2]);
  return {
    ...one,
    endpoints: one.endpoints.map((each, i) => (i === which ? { ...each, flags: endpointFlags.draining } : each)),
  };
};

test.each([
  ['a new Service port', inClass([null, entry(1)]), 'added'],
  ['one that is gone', inClass([entry(1), null]), 'removed'],
  ['an endpoint more', inClass([entry(1, [1]), entry(1, [1, 2])]), 'added'],
  ['an endpoint less', inClass([entry(1, [1, 2]), entry(1, [2])]), 'removed'],
  ['one for another', inClass([entry(1, [1]), entry(1, [2])]), 'changed'],
  ['more here and less there', inClass([entry(1, [1]), entry(1, [1, 2])], [entry(2), null]), 'changed'],
  ['a node port', inClass([entry(1), entry(1, [1], 30_000)]), 'changed'],
  [
    'an endpoint that begins to drain takes no connections any more',
    inClass([entry(1, [1, 2]), drained(0)]),
    'removed',
  ],
  ['and that it is gone then changes nothing for them', inClass([drained(0), entry(1, [2])]), 'changed'],
  [
    'in one node’s view alone',
    {
      ...nothing,
      overlays: new Map([[nodeName('n'), [{ key: serviceKey(1), before: entry(1), after: entry(1, [1, 2]) }]]]),
    },
    'added',
  ],
  ['a node that moved', { ...nothing, moved: [nodeName('n')] }, 'changed'],
])('%s', (_, batch, kind) => {
  expect(kindOf(batch)).toBe(kind);
});
