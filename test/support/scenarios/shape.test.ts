import { describe, expect, it } from 'vitest';
import { parseScenario } from './scenario.ts';

const parse = (body: string) => parseScenario('test/scenarios/story/scenario.yaml', body);
const head = 'title: A story\ncovers: [P1]\nsteps:\n';

describe('a scenario file', () => {
  it('is read', () => {
    const scenario = parse(`${head}  - expect: { from: pod-1a, to: $vip:80, reaches: pod-2a }\n`);
    expect(scenario).toMatchObject({
      name: 'story',
      title: 'A story',
      steps: [{ t: 'expect', value: [{ from: ['pod-1a'], to: ['$vip:80'], reaches: ['pod-2a'] }] }],
    });
  });

  it.each([
    ['covers: [P1]\nsteps: []', 'story: "title" is missing'],
    [
      'title: x\ncovers: [P55]\nsteps: []',
      'story.covers[0]: expected a row of the parity table, P1 to P54, found "P55"',
    ],
    [`${head}  - expct: {}`, 'story.steps[0]: "expct" is not known; did you mean "expect"?'],
    [`${head}  - golden: no`, 'story.steps[0].golden: expected true, found "no"'],
    [`${head}  - idle: { seconds: many, why: x }`, 'story.steps[0].idle.seconds: expected a number, found "many"'],
    [
      `${head}  - expect: { from: pod-1a, to: $vip:80 }`,
      'story.steps[0]: an expectation has exactly one of reaches, reachesOneOf, refused, dropped, fails; found none',
    ],
    [
      `${head}  - expect: { from: a, to: b, over: ICMP, refused: true }`,
      'story.steps[0].expect.over: expected one of TCP, UDP, SCTP, found "ICMP"',
    ],
    [`${head}  - remove: web`, 'story.steps[0].remove: expected KIND/NAME, found "web"'],
    [`${head}  - [`, 'test/scenarios/story/scenario.yaml: '],
  ])('that is wrong is refused with its place: %s', (body, message) => {
    expect(() => parse(body)).toThrow(message);
  });
});
