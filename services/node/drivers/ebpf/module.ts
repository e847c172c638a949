import { DriverError, type DriverModule, type DriverOptions } from '../driver.ts';
import { defaultCapacity } from './capacity.ts';
import { EbpfDriver } from './driver.ts';
import { probeKernel } from './probe.ts';

export const ebpf: DriverModule = {
  name: 'ebpf',
  flows: 'own',
  probe: async (options) => probeKernel(options),
  open: async (options: DriverOptions) => {
    const probe = probeKernel(options);
    if (probe.t === 'unable') throw new DriverError(probe.lacks.join(' '));
    return EbpfDriver.open(options, defaultCapacity);
  },
};
