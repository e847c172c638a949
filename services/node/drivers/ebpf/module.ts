import { type Capability, needing } from '../capabilities.ts';
import { DriverError, type DriverModule, type DriverOptions } from '../driver.ts';
import { defaultCapacity } from './capacity.ts';
import { EbpfDriver } from './driver.ts';
import { cgroupWarnings, probeKernel } from './probe.ts';

/**
 * Loading takes BPF, and PERFMON because the packet programs compute with pointers: both are parts of SYS_ADMIN, which it takes anyhow to
 * end the UDP flows of pods in the network namespaces of those pods (ends.ts).
 */
const capabilities: readonly Capability[] = ['NET_ADMIN', 'SYS_ADMIN'];

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
