import { FakeDriver, FakeKernel } from '@octoplane/node/drivers/fake.ts';
import { FaultyDriver } from '@octoplane/node/drivers/faulty.ts';
import { describeDriverContract } from './driver-contract.ts';

const kernel = new FakeKernel();

describeDriverContract('fake', {
  open: async () => new FakeDriver(kernel),
  neighbour: null,
  flush: () => kernel.disturb('flush', ({ entries }) => entries.clear()),
  tells: true,
  runs: 100,
});

// The wrapper must be transparent as long as it is told not to fail.
const wrapped = new FakeKernel();
describeDriverContract('faulty, healthy for now', {
  open: async () => {
    const driver = new FaultyDriver(new FakeDriver(wrapped), { seed: 1 });
    driver.healthy = true;
    return driver;
  },
  neighbour: null,
  flush: () => wrapped.disturb('flush', ({ entries }) => entries.clear()),
  tells: true,
  runs: 100,
});
