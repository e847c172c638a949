import { type Capability, needing } from '../capabilities.ts';
import { DriverError, type DriverModule, type DriverOptions } from '../driver.ts';
import { defaultCapacity } from './capacity.ts';
import { EbpfDriver } from './driver.ts';
import { cgroupWarnings, probeKernel } from './probe.ts';

/** PERFMON: the packet programs compute with pointers, which the verifier forbids without it. */
const capabilities: readonly Capability[] = ['NET_ADMIN', 'BPF', 'PERFMON'];

export const ebpf: DriverModule = {
  name: 'ebpf',
  flows: 'own',
  capabilities,
  probe: needing(capabilities, async (options) => probeKernel(options)),
  open: async (options: DriverOptions) => {
    const probe = probeKernel(options);
    if (probe.t === 'unable') throw new DriverError(probe.lacks.join(' '));
    for (const warning of cgroupWarnings(options.cgroupPath)) options.logger.warn(warning);
    return EbpfDriver.open(options, defaultCapacity);
  },
};
