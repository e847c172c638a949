import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Family } from '@octoplane/model/keys.ts';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Cluster } from '../lab/cluster.ts';
import { Lab } from '../lab/lab.ts';
import { allScenarios, flagsOf, scenariosRoot } from './all.ts';
import type { Column } from './columns.ts';
import { beyond, compareGolden, goldenFile, kernelTexts } from './kernel-text.ts';
import { neighbourText, putNeighbour } from './neighbour.ts';
import type { Result } from './parity.ts';
import { Player } from './player.ts';
import { writeResults } from './results.ts';
import type { Scenario } from './scenario.ts';

const firstStartMs = 240_000;

/**
 * Every scenario of test/scenarios in both families: one lab and one set of real daemons for all of them. UPDATE_GOLDEN=1
 * rewrites golden files.
 *
 * After each story: the state that deltas led to is the state that a node gets which has nothing (its daemon killed, its kernel
 * and its journal wiped), and the rules of a neighbour are as they were.
 */
export function tellScenarios(column: Column): void {
  const { name, driver } = column;
  let lab: Lab;
  let cluster: Cluster;
  let neighbour: string;
  let flags = '';
  const text = kernelTexts[name];
  let frame: readonly string[] = [];
  const results: Result[] = [];
  beforeAll(async () => {
    lab = await Lab.create();
    for (const node of lab.nodes) putNeighbour(lab, node.name, column);
    neighbour = neighbourText(lab, 'node-1', column);
    cluster = await Cluster.start(lab, { driver });
    // In a guest, of a checkout that Node has not compiled yet, the first start of everything takes a minute and more.
    await cluster.settled({ timeoutMs: firstStartMs });
    frame = text?.read(lab, 'node-1') ?? [];
  }, 1.5 * firstStartMs);
  afterAll(async () => {
    writeResults(name, results);
    await cluster?.[Symbol.asyncDispose]();
    await lab?.[Symbol.asyncDispose]();
  });

  if (text)
    it('the frame', () => {
      const file = join(scenariosRoot, 'frame', `${text.name}.${text.extension}`);
      expect(compareGolden(file, frame.join(''))).toEqual([]);
    });

  for (const scenario of allScenarios()) {
    for (const families of familiesOf(scenario)) {
      const reason = scenario.exceptions[driver] ?? scenario.exceptions[`${driver} ${families.join(' and ')}`];
      it(`${families.join(' and ')} ${scenario.name}`, async (context) => {
        const result = {
          column: name,
          families: families.join(' and '),
          scenario: scenario.name,
          covers: scenario.covers,
        };
        if (reason !== undefined) {
          results.push({ ...result, outcome: 'not done', reason });
          return context.skip(`${driver} does not: ${reason}`);
        }
        const at = results.push({ ...result, outcome: 'failed', reason: '' }) - 1;
        await startWith(flagsOf(scenario), scenario.nodeFlags ?? []);
        const player = new Player(scenario, { lab, cluster, families, golden: async (of) => golden(of, families) });
        try {
          await player.tell();
          if (families[0] === 'IPv4') await sameFromNothing();
          expect(neighbourText(lab, 'node-1', column)).toBe(neighbour);
          results[at] = { ...result, outcome: 'passed', reason: '' };
        } finally {
          await player.cleanUp();
          forgetFlows();
        }
      });
    }
  }

  async function startWith(wanted: string, nodeFlags: readonly string[]): Promise<void> {
    if (wanted === flags) return;
    await cluster.restartNodes(nodeFlags);
    await cluster.settled();
    frame = text?.read(lab, 'node-1') ?? [];
    flags = wanted;
  }

  function golden(scenario: Scenario, families: readonly Family[]): string[] {
    if (!text) return [];
    const file = goldenFile(scenario.dir, families.join('-'), text);
    return compareGolden(file, beyond(frame, text.read(lab, 'node-1')));
  }

  async function sameFromNothing(): Promise<void> {
    const byDeltas = await lab.dumpRules('node-1', driver);
    await cluster.node('node-1').stop('SIGKILL');
    await lab.wipeRules('node-1', driver);
    expect(await lab.dumpRules('node-1', driver), 'after a clean-up').toBe('');
    rmSync(cluster.stateDirOf('node-1'), { recursive: true, force: true });
    cluster.node('node-1').start();
    await cluster.settled();
    expect(await lab.dumpRules('node-1', driver), 'from nothing, against by deltas').toBe(byDeltas);
  }

  /** Scenarios use the same addresses one after the other; what conntrack remembers of one must not answer for the next. */
  function forgetFlows(): void {
    for (const { name } of lab.nodes) lab.within(name, () => spawnSync('conntrack', ['-F']));
  }
}

function familiesOf(scenario: Scenario): readonly (readonly [Family, ...Family[]])[] {
  return scenario.families === 'both' ? [['IPv4', 'IPv6']] : [['IPv4'], ['IPv6']];
}
