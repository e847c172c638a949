import { endpointFlags } from '@octoplane/model/rule-set.ts';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { nodeNames, service, slice, zones } from '../../../test/support/churn.ts';
import { explain } from './explain.ts';
import { resolve } from './resolve.ts';

const { cluster, local } = endpointFlags;

const vantage = fc.record({
  zone: fc.option(fc.constantFrom(...zones)),
  node: fc.option(fc.constantFrom(...nodeNames)),
});
const slices = fc.uniqueArray(slice, { selector: ({ name }) => name, maxLength: 4 });

test('what is explained is what is resolved, and a reason is given exactly where an endpoint is not chosen', () => {
  fc.assert(
    fc.property(service, slices, vantage, (one, its, from) => {
      const entries = new Map(resolve(one, its, from).map((entry) => [entry.key, entry]));
      const explained = explain(one, its, from);
      expect(explained).toHaveLength(one.ports.length);
      const withEntry = explained.flatMap((port) => (port.t === 'entry' ? [port] : []));
      expect(withEntry.map(({ key }) => key).sort()).toEqual([...entries.keys()].sort());
      for (const port of withEntry) {
        const entry = entries.get(port.key);
        expect(port.spec).toEqual(entry?.spec);
        const inRuleSet = port.endpoints.filter(({ flags }) => flags !== 0);
        expect(
          inRuleSet.map(({ endpoint, port: number, flags }) => ({ ip: endpoint.ip, port: number, flags })),
        ).toEqual(expect.arrayContaining([...(entry?.endpoints ?? [])]));
        expect(inRuleSet).toHaveLength(entry?.endpoints.length ?? 0);
        // Nothing is left out and nothing is there twice, even where slices have the same endpoint.
        expect(port.endpoints.map(({ endpoint }) => endpoint)).toEqual(its.flatMap(({ endpoints }) => endpoints));
        for (const { flags, clusterWhy, localWhy } of port.endpoints) {
          expect(clusterWhy === null).toBe((flags & cluster) !== 0);
          expect(localWhy === null).toBe((flags & local) !== 0);
        }
        for (const { mode, modeWhy } of port.families)
          if (modeWhy !== 'no frontend uses it') expect(modeWhy === `${mode} hints`).toBe(mode !== 'all');
      }
    }),
    { numRuns: 1000 },
  );
});
