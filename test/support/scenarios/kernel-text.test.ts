import { describe, expect, it } from 'vitest';
import { ipvsText } from './ipvs-text.ts';
import { beyond, nftBlocks, ownRules } from './kernel-text.ts';

describe('what an operator sees', () => {
  const table = (...blocks: string[]) => `table inet octoplane {\n\tcomment "ours"\n${blocks.join('\n')}}\n`;
  const map = (elements: string) => `\tmap m {\n\t\ttype a : b\n\t\telements = { ${elements} }\n\t}\n`;
  const chain = '\tchain c {\n\t\taccept\n\t}\n';

  it('is the same for the same elements in any order', () => {
    const expected = ['map m {\n\ttype a : b\n\telements = {\n\t\ta : 2,\n\t\tb : 1,\n\t}\n}\n\n'];
    expect(nftBlocks(table(map('b : 1,\n\t\t\t     a : 2')))).toEqual(expected);
    expect(nftBlocks(table(map('a : 2, b : 1')))).toEqual(expected);
  });

  it('leaves out sets and maps that are empty, and keeps chains', () => {
    const empty = '\tset empty {\n\t\ttype a\n\t\tcomment "nothing"\n\t}\n';
    expect(nftBlocks(table(empty, chain))).toEqual(['chain c {\n\taccept\n}\n\n']);
  });

  it('is ours alone in iptables', () => {
    const save =
      '*nat\n:PREROUTING ACCEPT [7:8]\n:OCTO-SVC - [0:0]\n-A OTHER -j ACCEPT\n-A OCTO-SVC -j RETURN\nCOMMIT\n';
    expect(ownRules('iptables', save)).toEqual([
      'iptables -t nat -N OCTO-SVC\n',
      'iptables -t nat -A OCTO-SVC -j RETURN\n',
    ]);
  });

  it('is, on IPVS, what is ours and open', () => {
    const services = [
      '-A -t 10.96.0.10:80 -s rr -b flag-3',
      '-a -t 10.96.0.10:80 -r 10.244.1.10:8080 -m -w 1',
      '-a -t 10.96.0.10:80 -r 10.244.2.10:8080 -m -w 0',
      '-A -t [fd00:96::10]:80 -s rr -b flag-3',
      '-a -t [fd00:96::10]:80 -r [fd00:244:1::a]:8080 -m -w 0',
      '-A -t 192.0.2.1:443 -s wlc',
    ];
    const sets = ['add octo-ipvs-address-4 10.96.0.10', 'add octo-ipvs-address-6 fd00:96::10', 'add other 192.0.2.1'];
    const routes = { '-4': 'local 10.96.0.10 dev octo-ipvs0', '-6': 'local fd00:96::10 dev octo-ipvs0' };
    expect(ipvsText({ services: services.join('\n'), sets: sets.join('\n'), routes })).toEqual([
      'ipvsadm -A -t 10.96.0.10:80 -s rr -b flag-3\n',
      'ipvsadm -a -t 10.96.0.10:80 -r 10.244.1.10:8080 -m -w 1\n',
      'ipset add octo-ipvs-address-4 10.96.0.10\n',
      'ip -4 route add table local local 10.96.0.10 dev octo-ipvs0\n',
    ]);
  });

  it('is, in a story, what goes beyond the frame', () => {
    expect(beyond(['a\n', 'b\n'], ['a\n', 'b, and more\n', 'c\n'])).toBe('b, and more\nc\n');
  });
});
