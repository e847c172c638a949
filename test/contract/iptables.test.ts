import { openHere } from '@octoplane/node/drivers/iptables/module.ts';
import { afterAll, beforeAll } from 'vitest';
import { describeDriverContract } from './driver-contract.ts';
import { enterOwnNetwork, feed, run } from './namespace.ts';
import { contractOptions } from './options.ts';

const options = contractOptions();

beforeAll(() => {
  enterOwnNetwork();
});

afterAll(() => {
  options[Symbol.dispose]();
});

/** A firewall of somebody else's, with a chain that is entered from where ours are. */
const neighbours = [
  '*nat',
  ':NEIGHBOUR - [0:0]',
  '-A PREROUTING -p tcp -m tcp --dport 8443 -j NEIGHBOUR',
  '-A NEIGHBOUR -j RETURN',
  'COMMIT',
  '*filter',
  ':NEIGHBOUR - [0:0]',
  '-A FORWARD -j NEIGHBOUR',
  '-A NEIGHBOUR -s 192.0.2.1/32 -j DROP',
  'COMMIT',
  '',
].join('\n');

for (const flavour of ['nft', 'legacy'] as const) {
  describeDriverContract(`iptables (${flavour})`, {
    open: () => openHere(options, flavour),
    neighbour: () => {
      const held = () =>
        run(`iptables-${flavour}-save`)
          .split('\n')
          .filter((line) => line.includes('NEIGHBOUR'))
          .join('\n');
      if (held() === '') feed(neighbours, `iptables-${flavour}-restore`, '--noflush');
      return held();
    },
    flush: () => {
      for (const command of [`iptables-${flavour}`, `ip6tables-${flavour}`]) run(command, '-t', 'nat', '-F');
    },
    tells: flavour === 'nft',
    runs: 10,
  });
}
