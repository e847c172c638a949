import { parseDurationMs } from '@octoplane/model/duration.ts';

/**
 * Every field of kubeproxy.config.k8s.io/v1alpha1 KubeProxyConfiguration, and what becomes of it here: a flag of `octoplane node`, said
 * in the words that the flag takes, or nothing, for a reason. Zero values say nothing, as in kube-proxy: kubeadm writes out all of them.
 */
export type Field =
  | { readonly t: 'flag'; readonly flag: string; readonly words: (value: unknown) => Words }
  | { readonly t: 'ignored'; readonly why: string }
  | { readonly t: 'section'; readonly fields: Fields };

export type Fields = Readonly<Record<string, Field>>;

/** `said`: what the flag is given; null: as if the field were not there. */
export type Words =
  | { readonly t: 'said'; readonly text: string | boolean | null }
  | { readonly t: 'wrong'; readonly wanted: string };

const said = (text: string | boolean | null): Words => ({ t: 'said', text });
const wrong = (wanted: string): Words => ({ t: 'wrong', wanted });
const ignored = (why: string): Field => ({ t: 'ignored', why });
const section = (fields: Fields): Field => ({ t: 'section', fields });

const asText =
  (wanted: string, words = (text: string): Words => said(text)) =>
  (value: unknown): Words =>
    typeof value !== 'string' ? wrong(wanted) : value === '' ? said(null) : words(value);

const text = (flag: string): Field => ({ t: 'flag', flag, words: asText('a text') });
const yes = (flag: string): Field => ({
  t: 'flag',
  flag,
  words: (value) => (typeof value === 'boolean' ? said(value) : wrong('true or false')),
});
const whole = (flag: string): Field => ({
  t: 'flag',
  flag,
  words: (value) =>
    typeof value === 'number' && Number.isInteger(value) ? said(String(value)) : wrong('a whole number'),
});

/** metav1.Duration: "1h0m0s". `zero`: does it mean something of its own, or the default? */
const duration = (flag: string, zero: 'default' | 'itself'): Field => ({
  t: 'flag',
  flag,
  words: asText('a duration such as 30s or 1h0m0s', (value) => {
    const ms = parseDurationMs(value);
    if (ms === null) return wrong('a duration such as 30s or 1h0m0s');
    return said(ms === 0 && zero === 'default' ? null : value);
  }),
});

/** An address, with or without a port. */
const bind = (flag: string, port: number): Field => ({
  t: 'flag',
  flag,
  words: asText('ADDRESS or ADDRESS:PORT', (value) => {
    if (/^[0-9.]+$/.test(value)) return said(`${value}:${port}`);
    return /^[0-9a-fA-F:]*:[0-9a-fA-F:]*$/.test(value) && (value.match(/:/g) ?? []).length > 1
      ? said(`[${value}]:${port}`)
      : said(value);
  }),
});

const drivers: Readonly<Record<string, string>> = { iptables: 'iptables', ipvs: 'ipvs', nftables: 'nftables' };

/** Where this kube-proxy would find an option that three modes have. */
export type Mode = 'iptables' | 'ipvs' | 'nftables';

const ofMode = (mode: Mode, own: Mode, field: Field): Field =>
  mode === own ? field : ignored(`mode is ${mode}, and this is of ${own}`);

const windows = ignored('Octoplane has no driver for Windows');
const batching = ignored('the controller batches changes');

export const fieldsFor = (mode: Mode): Fields => ({
  featureGates: ignored("gates of kube-proxy's: what they gate is on here, or is not there"),
  clientConnection: ignored('a node talks to the controller (--controller), never to the API server'),
  logging: ignored('logs are lines of JSON; --log-level says how much'),
  hostnameOverride: { t: 'flag', flag: 'nodeName', words: asText('a name', (name) => said(name.trim().toLowerCase())) },
  bindAddress: {
    t: 'flag',
    flag: 'nodeIp',
    words: asText('an IP address', (ip) => said(ip === '0.0.0.0' || ip === '::' ? null : ip)),
  },
  healthzBindAddress: bind('healthzBindAddress', 10_256),
  metricsBindAddress: bind('metricsBindAddress', 10_249),
  bindAddressHardFail: ignored('an address that cannot be bound always ends the start'),
  enableProfiling: ignored("profiles are taken by Node's own --cpu-prof and --heap-prof"),
  showHiddenMetricsForVersion: ignored('no metric is hidden'),
  mode: {
    t: 'flag',
    flag: 'driver',
    words: asText('iptables, ipvs or nftables', (name) =>
      drivers[name] === undefined ? wrong('iptables, ipvs or nftables') : said(name),
    ),
  },
  iptables: section({
    // In mode ipvs kube-proxy masquerades by iptables, and reads its settings here.
    masqueradeBit: ofMode(mode, mode === 'ipvs' ? 'ipvs' : 'iptables', whole('masqueradeBit')),
    masqueradeAll: ofMode(mode, mode === 'ipvs' ? 'ipvs' : 'iptables', yes('masqueradeAll')),
    localhostNodePorts: ignored(
      'node ports on localhost are the eBPF driver’s, and always on there (docs/drivers.md, P25)',
    ),
    syncPeriod: ofMode(mode, 'iptables', duration('syncPeriod', 'default')),
    minSyncPeriod: batching,
  }),
  ipvs: section({
    syncPeriod: ofMode(mode, 'ipvs', duration('syncPeriod', 'default')),
    minSyncPeriod: batching,
    scheduler: ofMode(mode, 'ipvs', text('ipvsScheduler')),
    excludeCIDRs: ignored('services of others are never touched'),
    strictARP: ofMode(mode, 'ipvs', yes('ipvsStrictArp')),
    tcpTimeout: ofMode(mode, 'ipvs', duration('ipvsTcpTimeout', 'default')),
    tcpFinTimeout: ofMode(mode, 'ipvs', duration('ipvsTcpFinTimeout', 'default')),
    udpTimeout: ofMode(mode, 'ipvs', duration('ipvsUdpTimeout', 'default')),
  }),
  nftables: section({
    masqueradeBit: ofMode(mode, 'nftables', whole('masqueradeBit')),
    masqueradeAll: ofMode(mode, 'nftables', yes('masqueradeAll')),
    syncPeriod: ofMode(mode, 'nftables', duration('syncPeriod', 'default')),
    minSyncPeriod: batching,
  }),
  winkernel: section({
    networkName: windows,
    sourceVip: windows,
    enableDSR: windows,
    rootHnsEndpointName: windows,
    forwardHealthCheckVip: windows,
  }),
  clusterCIDR: text('clusterCidr'),
  detectLocalMode: {
    t: 'flag',
    flag: 'detectLocal',
    words: asText('ClusterCIDR, BridgeInterface or InterfaceNamePrefix', (name) => {
      if (name === 'ClusterCIDR') return said(null);
      if (name === 'BridgeInterface' || name === 'InterfaceNamePrefix') return said(name);
      return wrong(
        name === 'NodeCIDR'
          ? 'ClusterCIDR, BridgeInterface or InterfaceNamePrefix; for NodeCIDR, write ClusterCIDR and set clusterCIDR to the podCIDR of this node'
          : 'ClusterCIDR, BridgeInterface or InterfaceNamePrefix',
      );
    }),
  },
  detectLocal: section({
    bridgeInterface: text('bridgeInterface'),
    interfaceNamePrefix: text('interfaceNamePrefix'),
  }),
  nodePortAddresses: {
    t: 'flag',
    flag: 'nodePortAddresses',
    words: (value) => {
      if (!Array.isArray(value) || !value.every((item) => typeof item === 'string'))
        return wrong('a list of CIDRs, or [primary]');
      if (value.includes('primary') && value.length > 1) return wrong('either primary alone or CIDRs');
      return said(value.length === 0 ? null : value.join(','));
    },
  },
  oomScoreAdj: whole('oomScoreAdj'),
  conntrack: section({
    maxPerCore: whole('conntrackMaxPerCore'),
    min: whole('conntrackMin'),
    tcpEstablishedTimeout: duration('conntrackTcpTimeoutEstablished', 'itself'),
    tcpCloseWaitTimeout: duration('conntrackTcpTimeoutCloseWait', 'itself'),
    tcpBeLiberal: yes('conntrackTcpBeLiberal'),
    udpTimeout: duration('conntrackUdpTimeout', 'itself'),
    udpStreamTimeout: duration('conntrackUdpTimeoutStream', 'itself'),
  }),
  configSyncPeriod: ignored('the controller watches its sources'),
  portRange: ignored('it was of the userspace mode'),
  windowsRunAsService: windows,
});
