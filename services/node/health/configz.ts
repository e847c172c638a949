import { formatCidr } from '@octoplane/model/address.ts';
import { formatBindAddress, type NodeOptions } from '../options.ts';

/**
 * `/configz` (P50): the settings in use, under our own key as they are, and under kube-proxy's in the fields of its v1alpha1 type, so that
 * what reads a kube-proxy's settings reads these. Fields that mean nothing here are left out.
 */
export const configz = (options: NodeOptions, driver: string): Readonly<Record<string, unknown>> => ({
  'octoplane.node': { ...options, transport: options.transport.t },
  'kubeproxy.config.k8s.io': kubeProxyConfiguration(options, driver),
});

function kubeProxyConfiguration(options: NodeOptions, mode: string): Readonly<Record<string, unknown>> {
  const { conntrack, podInterfaces, ipvs, nodePortAddresses } = options;
  const masquerade = { masqueradeBit: options.masqueradeBit, masqueradeAll: options.masqueradeAll };
  const syncPeriod = duration(options.syncPeriodMs / 1_000);
  return {
    kind: 'KubeProxyConfiguration',
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    hostnameOverride: options.nodeName,
    healthzBindAddress: options.healthzBindAddress ? formatBindAddress(options.healthzBindAddress) : '',
    metricsBindAddress: options.metricsBindAddress ? formatBindAddress(options.metricsBindAddress) : '',
    mode,
    iptables: { ...masquerade, syncPeriod },
    nftables: { ...masquerade, syncPeriod },
    ipvs: {
      syncPeriod,
      scheduler: ipvs.scheduler,
      strictARP: ipvs.strictArp,
      tcpTimeout: duration(ipvs.tcpTimeoutSeconds),
      tcpFinTimeout: duration(ipvs.tcpFinTimeoutSeconds),
      udpTimeout: duration(ipvs.udpTimeoutSeconds),
    },
    clusterCIDR: options.clusterCidrs.map(formatCidr).join(','),
    detectLocalMode:
      podInterfaces === null ? 'ClusterCIDR' : podInterfaces.prefix ? 'InterfaceNamePrefix' : 'BridgeInterface',
    detectLocal: {
      bridgeInterface: podInterfaces !== null && !podInterfaces.prefix ? podInterfaces.name : '',
      interfaceNamePrefix: podInterfaces?.prefix ? podInterfaces.name : '',
    },
    nodePortAddresses:
      nodePortAddresses.t === 'cidrs'
        ? nodePortAddresses.cidrs.map(formatCidr)
        : nodePortAddresses.t === 'primary'
          ? ['primary']
          : [],
    oomScoreAdj: options.oomScoreAdj,
    conntrack: {
      maxPerCore: conntrack.maxPerCore,
      min: conntrack.min,
      tcpEstablishedTimeout: duration(conntrack.tcpEstablishedTimeoutSeconds),
      tcpCloseWaitTimeout: duration(conntrack.tcpCloseWaitTimeoutSeconds),
      tcpBeLiberal: conntrack.tcpBeLiberal,
      udpTimeout: duration(conntrack.udpTimeoutSeconds),
      udpStreamTimeout: duration(conntrack.udpStreamTimeoutSeconds),
    },
  };
}

const duration = (seconds: number): string => `${seconds}s`;
