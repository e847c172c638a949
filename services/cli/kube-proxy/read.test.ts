import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { nodeCommand } from '../commands/node.ts';
import { applyConfigFile } from '../config-file.ts';
import { type Fields, fieldsFor } from './fields.ts';

const dir = mkdtempSync(join(tmpdir(), 'octoplane-config-'));
afterAll(() => rmSync(dir, { recursive: true }));

const head = 'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n';

/** What the file says to `octoplane node`, beside other flags. */
function read(yaml: string, ...flags: readonly string[]) {
  const file = join(dir, 'config.yaml');
  writeFileSync(file, head + yaml);
  const command = nodeCommand().exitOverride();
  command.action(() => undefined);
  command.parse(['--config', file, ...flags], { from: 'user' });
  const disregarded = applyConfigFile(command, file);
  return { options: command.opts(), ...disregarded };
}

const cidr = (ip: string, length: number) => ({ ip, length });

describe('every field', () => {
  it.each<[yaml: string, option: string, value: unknown]>([
    ['hostnameOverride: " Node-7 "', 'nodeName', 'node-7'],
    ['bindAddress: 10.0.0.7', 'nodeIp', ['10.0.0.7']],
    ['bindAddress: 0.0.0.0', 'nodeIp', []],
    ['bindAddress: "::"', 'nodeIp', []],
    ['healthzBindAddress: 127.0.0.1:1', 'healthzBindAddress', { host: '127.0.0.1', port: 1 }],
    ['healthzBindAddress: 127.0.0.1', 'healthzBindAddress', { host: '127.0.0.1', port: 10_256 }],
    ['metricsBindAddress: "::1"', 'metricsBindAddress', { host: '::1', port: 10_249 }],
    ['metricsBindAddress: "[::1]:7"', 'metricsBindAddress', { host: '::1', port: 7 }],
    ['mode: nftables', 'driver', 'nftables'],
    ['mode: ipvs', 'driver', 'ipvs'],
    ['mode: ""', 'driver', 'auto'],
    ['iptables: {masqueradeBit: 9}', 'masqueradeBit', 9],
    ['iptables: {masqueradeAll: true}', 'masqueradeAll', true],
    ['iptables: {syncPeriod: 1m0s}', 'syncPeriod', 60_000],
    ['iptables: {syncPeriod: 0s}', 'syncPeriod', 30_000],
    ['mode: nftables\nnftables: {masqueradeBit: 9}', 'masqueradeBit', 9],
    ['mode: nftables\nnftables: {masqueradeAll: true}', 'masqueradeAll', true],
    ['mode: nftables\nnftables: {syncPeriod: 5s}', 'syncPeriod', 5_000],
    ['mode: ipvs\niptables: {masqueradeBit: 9}', 'masqueradeBit', 9],
    ['mode: ipvs\nipvs: {syncPeriod: 5s}', 'syncPeriod', 5_000],
    ['mode: ipvs\nipvs: {scheduler: lc}', 'ipvsScheduler', 'lc'],
    ['mode: ipvs\nipvs: {strictARP: true}', 'ipvsStrictArp', true],
    ['mode: ipvs\nipvs: {tcpTimeout: 15m0s}', 'ipvsTcpTimeout', 900],
    ['mode: ipvs\nipvs: {tcpFinTimeout: 2m}', 'ipvsTcpFinTimeout', 120],
    ['mode: ipvs\nipvs: {udpTimeout: 5m}', 'ipvsUdpTimeout', 300],
    ['clusterCIDR: 10.244.0.0/16,fd00::/32', 'clusterCidr', [cidr('10.244.0.0', 16), cidr('fd00::', 32)]],
    ['detectLocalMode: ClusterCIDR\nclusterCIDR: 10.1.0.0/16', 'clusterCidr', [cidr('10.1.0.0', 16)]],
    [
      'detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0}',
      'detectLocal',
      { name: 'cni0', prefix: false },
    ],
    [
      'detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: cali}',
      'detectLocal',
      { name: 'cali', prefix: true },
    ],
    ['detectLocal: {interfaceNamePrefix: cali}', 'detectLocal', null],
    ['nodePortAddresses: [primary]', 'nodePortAddresses', { t: 'primary' }],
    ['nodePortAddresses: [10.0.0.0/8]', 'nodePortAddresses', { t: 'cidrs', cidrs: [cidr('10.0.0.0', 8)] }],
    ['nodePortAddresses: []', 'nodePortAddresses', { t: 'all' }],
    ['oomScoreAdj: -999', 'oomScoreAdj', -999],
    ['oomScoreAdj: null', 'oomScoreAdj', null],
    ['conntrack: {maxPerCore: 0}', 'conntrackMaxPerCore', 0],
    ['conntrack: {min: 7}', 'conntrackMin', 7],
    ['conntrack: {tcpEstablishedTimeout: 24h0m0s}', 'conntrackTcpTimeoutEstablished', 86_400],
    ['conntrack: {tcpCloseWaitTimeout: 0s}', 'conntrackTcpTimeoutCloseWait', 0],
    ['conntrack: {tcpCloseWaitTimeout: null}', 'conntrackTcpTimeoutCloseWait', 3_600],
    ['conntrack: {tcpBeLiberal: true}', 'conntrackTcpBeLiberal', true],
    ['conntrack: {udpTimeout: 30s}', 'conntrackUdpTimeout', 30],
    ['conntrack: {udpStreamTimeout: 3m}', 'conntrackUdpTimeoutStream', 180],
  ])('%s', (yaml, option, value) => {
    const { options, ignored, unknown } = read(yaml);
    expect(options[option]).toEqual(value);
    expect([...ignored, ...unknown]).toEqual([]);
  });

  it.each([
    ['featureGates: {X: true}', 'featureGates'],
    ['clientConnection: {kubeconfig: /k}', 'clientConnection'],
    ['logging: {verbosity: 4}', 'logging'],
    ['bindAddressHardFail: true', 'bindAddressHardFail'],
    ['enableProfiling: true', 'enableProfiling'],
    ['showHiddenMetricsForVersion: "1.33"', 'showHiddenMetricsForVersion'],
    ['iptables: {localhostNodePorts: true}', 'iptables.localhostNodePorts'],
    ['iptables: {minSyncPeriod: 1s}', 'iptables.minSyncPeriod'],
    ['ipvs: {scheduler: lc}', 'ipvs.scheduler'],
    ['ipvs: {excludeCIDRs: [10.0.0.0/8]}', 'ipvs.excludeCIDRs'],
    ['mode: nftables\niptables: {masqueradeAll: true}', 'iptables.masqueradeAll'],
    ['winkernel: {networkName: x}', 'winkernel.networkName'],
    ['configSyncPeriod: 15m0s', 'configSyncPeriod'],
    ['portRange: 1-2', 'portRange'],
    ['windowsRunAsService: true', 'windowsRunAsService'],
  ])('%s is named as ignored, with a reason', (yaml, field) => {
    const { ignored, unknown } = read(yaml);
    expect(unknown).toEqual([]);
    expect(ignored).toEqual([{ field, why: expect.stringMatching(/.{10}/) }]);
  });

  it('is one of kube-proxy, and has a flag that is there or a reason', () => {
    const flags = new Set(nodeCommand().options.map((option) => option.attributeName()));
    const walk = (fields: Fields): void => {
      for (const [name, field] of Object.entries(fields)) {
        if (field.t === 'section') walk(field.fields);
        else if (field.t === 'flag')
          expect([...flags, 'bridgeInterface', 'interfaceNamePrefix'], name).toContain(field.flag);
        else expect(field.why, name).not.toBe('');
      }
    };
    for (const mode of ['iptables', 'ipvs', 'nftables'] as const) walk(fieldsFor(mode));
  });
});

it('what kubeadm writes says nothing but what it says', () => {
  const { options, ignored, unknown } = read(`
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection: {acceptContentTypes: "", burst: 0, contentType: "", kubeconfig: "", qps: 0}
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack: {maxPerCore: null, min: null, tcpBeLiberal: false, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null, udpStreamTimeout: 0s, udpTimeout: 0s}
detectLocal: {bridgeInterface: "", interfaceNamePrefix: ""}
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables: {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: "", strictARP: false, syncPeriod: 0s, tcpFinTimeout: 0s, tcpTimeout: 0s, udpTimeout: 0s}
logging: {flushFrequency: 0, options: {json: {infoBufferSize: "0"}, text: {infoBufferSize: "0"}}, verbosity: 0}
metricsBindAddress: ""
mode: ""
nftables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel: {enableDSR: false, forwardHealthCheckVip: false, networkName: "", rootHnsEndpointName: "", sourceVip: ""}
`);
  expect(ignored).toEqual([]);
  expect(unknown).toEqual([]);
  expect(options['clusterCidr']).toEqual([cidr('10.244.0.0', 16)]);
  expect(options['driver']).toBe('auto');
});

it('unknown fields are named', () => {
  expect(read('modes: x\niptables: {bit: 3}').unknown).toEqual(['modes', 'iptables.bit']);
});

it('a flag comes before the environment, the environment before the file, the file before the default', () => {
  const said = 'mode: nftables\niptables: {masqueradeBit: 3}\nconntrack: {min: 7}';
  process.env['OCTOPLANE_CONNTRACK_MIN'] = '8';
  try {
    expect(read(said, '--driver', 'ebpf').options).toMatchObject({ driver: 'ebpf', conntrackMin: 8 });
    expect(read('conntrack: {maxPerCore: 9}').options).toMatchObject({ conntrackMaxPerCore: 9, conntrackMin: 8 });
  } finally {
    delete process.env['OCTOPLANE_CONNTRACK_MIN'];
  }
});

describe('a bad value is refused with its place and what to write', () => {
  it.each([
    ['mode: userspace', /config\.yaml:3: mode is "userspace": write iptables, ipvs or nftables/],
    ['mode: kernelspace', /:3: mode/],
    ['\nconntrack:\n  min: much', /:5: conntrack\.min is "much": write a whole number/],
    ['conntrack: {udpTimeout: 5}', /conntrack\.udpTimeout is 5: write a duration/],
    ['iptables: {syncPeriod: soon}', /iptables\.syncPeriod is "soon": write a duration/],
    ['iptables: {masqueradeAll: sure}', /write true or false/],
    ['iptables: 5', /:3: iptables is a map/],
    ['clusterCIDR: 10.244.0.0', /clusterCIDR.*is not a network/],
    ['nodePortAddresses: [primary, 10.0.0.0/8]', /either primary alone or CIDRs/],
    ['nodePortAddresses: 10.0.0.0/8', /a list of CIDRs/],
    ['detectLocalMode: NodeCIDR', /podCIDR of this node/],
    ['detectLocalMode: BridgeInterface', /write detectLocal\.bridgeInterface, too/],
    ['healthzBindAddress: localhost:1', /healthzBindAddress.*ADDRESS:PORT/],
    ['oomScoreAdj: 2000', /oomScoreAdj.*-1000 to 1000/],
  ])('%s', (yaml, message) => {
    expect(() => read(yaml)).toThrow(message);
  });

  it('another version', () => {
    const file = join(dir, 'v1.yaml');
    writeFileSync(file, 'apiVersion: kubeproxy.config.k8s.io/v1\nkind: KubeProxyConfiguration\n');
    expect(() => applyConfigFile(nodeCommand(), file)).toThrow(/v1alpha1/);
  });
});
