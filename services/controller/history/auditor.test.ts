import { expect, test } from 'vitest';
import { ManualClock } from '../../../test/support/stub-nodes/manual-clock.ts';
import { Auditor } from './auditor.ts';

test.each([1, 40, 10_000])(
  'every one of %d Services is looked at within five minutes, and not much more often',
  (services) => {
    const clock = new ManualClock();
    let audited = 0;
    const auditor = new Auditor({ audit: (count) => (audited += count), services: () => services, clock });
    auditor.start();
    clock.advance(3_000_100);
    expect(audited / services, 'rounds in fifty minutes').toBeCloseTo(10, 2);
    auditor.stop();
    expect(clock.timers).toBe(0);
  },
);
