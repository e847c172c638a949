import { ipvs } from '@octoplane/node/drivers/ipvs/module.ts';
import { IpvsTable } from '@octoplane/node/drivers/ipvs/table.ts';
import { afterAll } from 'vitest';
import { describeDriverContract } from '../../contract/driver-contract.ts';
import { enterOwnNetwork, feed, run } from '../../contract/namespace.ts';
import { contractOptions } from '../../contract/options.ts';

enterOwnNetwork();
const table = IpvsTable.open();
// What other programs have beside us: a balancer of their own, a set, and a firewall.
feed('-A -t 192.0.2.1:443 -s wlc -p 60\n-a -t 192.0.2.1:443 -r 192.0.2.10:443 -m -w 7\n', 'ipvsadm', '-R');
feed('create neighbour hash:ip\nadd neighbour 192.0.2.1\n', 'ipset', 'restore');
run('iptables-legacy', '-N', 'NEIGHBOUR');
run('iptables-legacy', '-A', 'NEIGHBOUR', '-m', 'set', '--match-set', 'neighbour', 'src', '-j', 'DROP');
run('iptables-legacy', '-A', 'INPUT', '-j', 'NEIGHBOUR');

const options = contractOptions({ nodePortAddresses: { t: 'all' } });
run('ip', 'link', 'add', 'node0', 'type', 'dummy');
run('ip', 'link', 'set', 'node0', 'up');
run('ip', 'addr', 'add', '172.18.0.1/24', 'dev', 'node0');
run('ip', 'addr', 'add', 'fd00:18::1/64', 'dev', 'node0', 'nodad');
afterAll(() => {
  options[Symbol.dispose]();
  table[Symbol.dispose]();
});

describeDriverContract('ipvs', {
  open: () => ipvs.open(options),
  neighbour: () =>
    run('ipvsadm', '-Sn')
      .split('\n')
      .filter((line) => line.includes('192.0.2.1')) +
    run('ipset', 'list', 'neighbour') +
    run('iptables-legacy', '-S', 'NEIGHBOUR') +
    run('iptables-legacy', '-S', 'INPUT')
      .split('\n')
      .filter((line) => line.includes('NEIGHBOUR')),
  flush: () => {
    const ours = table.services().filter((service) => service.ours);
    table.execute(ours.map(({ id }) => ({ t: 'delete-service', id })));
    run('ipset', 'flush');
    feed('add neighbour 192.0.2.1\n', 'ipset', 'restore');
    run('iptables-legacy', '-F');
    run('iptables-legacy', '-A', 'NEIGHBOUR', '-m', 'set', '--match-set', 'neighbour', 'src', '-j', 'DROP');
    run('iptables-legacy', '-A', 'INPUT', '-j', 'NEIGHBOUR');
    run('ip', 'link', 'delete', 'octo-ipvs0');
  },
  tells: true,
  // A program of iptables is started a dozen times for each.
  runs: 4,
});
