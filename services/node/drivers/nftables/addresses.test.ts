import { describe, expect, it } from 'vitest';
import { defaultDevice4, defaultDevice6 } from './addresses.ts';
import { kernelVersionLack } from './module.ts';

describe('the interface of the default route', () => {
  it('IPv4: the route to everywhere with the least metric', () => {
    const text = [
      'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT',
      'wlan0\t00000000\t0100A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0',
      'eth0\t00000000\t010012AC\t0003\t0\t0\t100\t00000000\t0\t0\t0',
      'tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0',
    ].join('\n');
    expect(defaultDevice4(text)).toBe('eth0');
    expect(defaultDevice4('Iface\tDestination\n')).toBeNull();
  });

  it('IPv6: not the one to loopback, which means unreachable', () => {
    const zero = '0'.repeat(32);
    const route = (device: string, metric: string) =>
      `${zero} 00 ${zero} 00 ${zero} ${metric} 00000001 00000000 00000003 ${device}`;
    expect(
      defaultDevice6([route('lo', '00000000'), route('eth1', '00000400'), route('eth0', '00000100')].join('\n')),
    ).toBe('eth0');
    expect(defaultDevice6(route('lo', 'ffffffff'))).toBeNull();
  });
});

it('a kernel that is too old is told so, with what to do', () => {
  expect(kernelVersionLack('5.13.0-generic')).toBeNull();
  expect(kernelVersionLack('6.1.0')).toBeNull();
  expect(kernelVersionLack('5.10.0-30-amd64')).toContain('needs kernel 5.13 or later, this is 5.10.0-30-amd64');
});
