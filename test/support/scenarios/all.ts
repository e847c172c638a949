import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readScenario, type Scenario } from './scenario.ts';

export const scenariosRoot = fileURLToPath(new URL('../../scenarios', import.meta.url));

/** Every scenario of test/scenarios, those with the same daemon flags together, so that daemons restart seldom. */
export function allScenarios(): readonly Scenario[] {
  const scenarios = readdirSync(scenariosRoot)
    .map((name) => join(scenariosRoot, name, 'scenario.yaml'))
    .filter((file) => existsSync(file))
    .map((file) => readScenario(file));
  return scenarios.sort((a, b) => compare(flagsOf(a), flagsOf(b)) || compare(a.name, b.name));
}

export const flagsOf = (scenario: Scenario): string => (scenario.nodeFlags ?? []).join(' ');

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
