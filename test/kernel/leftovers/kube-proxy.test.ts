import { removeKubeProxy } from '@octoplane/node/drivers/kube-proxy.ts';
import { silentLogger } from '@octoplane/node/testing/logger.ts';
import { beforeAll, expect, it } from 'vitest';
import { enterOwnNetwork, feed, run } from '../../contract/namespace.ts';

beforeAll(enterOwnNetwork);

const kubeProxy = `*nat
:KUBE-MARK-MASQ - [0:0]
:KUBE-SEP-AAAA - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-BBBB - [0:0]
:NEIGHBOUR - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -j NEIGHBOUR
-A OUTPUT -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-BBBB
-A KUBE-SVC-BBBB -j KUBE-SEP-AAAA
-A KUBE-SEP-AAAA -p tcp -j DNAT --to-destination 10.244.1.1:80
COMMIT
`;

const flavours = ['iptables-nft', 'iptables-legacy'] as const;

it("removes what kube-proxy left in nft and in both flavours of iptables, and nobody else's", async () => {
  for (const flavour of flavours) feed(kubeProxy, `${flavour}-restore`, '--noflush');
  feed(
    'table ip kube-proxy { chain services { }; }\ntable ip6 kube-proxy { }\ntable ip neighbour { }\n',
    'nft',
    '-f',
    '-',
  );
  await removeKubeProxy(silentLogger);
  for (const flavour of flavours) {
    const left = run(`${flavour}-save`, '-t', 'nat');
    expect(left).not.toMatch(/KUBE-(SEP|SVC|SERVICES)/);
    expect(left).toContain(':KUBE-MARK-MASQ');
    expect(left).toContain('-A PREROUTING -j NEIGHBOUR');
  }
  const tables = run('nft', 'list', 'tables');
  expect(tables).not.toContain('kube-proxy');
  expect(tables).toContain('table ip neighbour');
  // Nothing is left to do, and that is no error.
  await removeKubeProxy(silentLogger);
});
