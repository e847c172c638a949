import { expect, test } from 'vitest';
import { headSampling, samplerSetting } from './sampling.ts';

const sampled = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
const unsampled = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00';

test.each([
  [undefined, undefined, { ratio: 1, followsLinks: true }, 0],
  ['always_on', undefined, { ratio: 1, followsLinks: false }, 0],
  ['always_off', undefined, { ratio: 0, followsLinks: false }, 0],
  ['traceidratio', '0.25', { ratio: 0.25, followsLinks: false }, 0],
  ['parentbased_traceidratio', '0.25', { ratio: 0.25, followsLinks: true }, 0],
  ['parentbased_traceidratio', undefined, { ratio: 1, followsLinks: true }, 0],
  ['parentbased_always_off', undefined, { ratio: 0, followsLinks: true }, 0],
  ['traceidratio', 'half', { ratio: 1, followsLinks: false }, 1],
  ['traceidratio', '-1', { ratio: 1, followsLinks: false }, 1],
  ['jaeger_remote', 'x', { ratio: 1, followsLinks: true }, 1],
])('OTEL_TRACES_SAMPLER=%s _ARG=%s', (name, argument, setting, warnings) => {
  const told: string[] = [];
  expect(samplerSetting(name, argument, (message) => told.push(message))).toEqual(setting);
  expect(told).toHaveLength(warnings);
});

test('the ratio draws by the id; contexts that objects carry decide where they are asked to', () => {
  const { draw } = headSampling({ ratio: 0.5, followsLinks: true }, (id) => id === 'in');
  expect([draw('in', []), draw('out', [])]).toEqual([true, false]);
  expect([draw('out', [unsampled, sampled]), draw('in', [unsampled])]).toEqual([true, false]);
  const deaf = headSampling({ ratio: 0.5, followsLinks: false }, (id) => id === 'in');
  expect(deaf.draw('out', [sampled])).toBe(false);
});

test('switched off is off: not even refusals are kept', () => {
  expect(headSampling({ ratio: 0, followsLinks: false }, () => true)).toMatchObject({ keepsNotable: false });
  expect(headSampling({ ratio: 0, followsLinks: true }, () => true)).toMatchObject({ keepsNotable: true });
  expect(headSampling({ ratio: 0.001, followsLinks: false }, () => false)).toMatchObject({ keepsNotable: true });
});
