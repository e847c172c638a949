import { parseCidr } from '@octoplane/model/address.ts';
import { describe, expect, it } from 'vitest';
import { isOurs } from '../iptables/names.ts';
import { areHeld, parseSaved, removeText, restoreText } from './iptables.ts';
import { type RuleOptions, rulesFor } from './rules.ts';

const options: RuleOptions = {
  clusterCidrs: ['10.244.0.0/16', 'fd00:244::/32'].flatMap((text) => parseCidr(text) ?? []),
  masqueradeAll: false,
  masqueradeBit: 14,
  icmp: 'reply',
  dropInvalid: true,
};

/** What iptables-restore is given on a node without rules. */
const textOf = (family: 'IPv4' | 'IPv6', changed: Partial<RuleOptions> = {}): string =>
  rulesFor(family, { ...options, ...changed })
    .map((rules) => restoreText(rules, []))
    .join('')
    .replaceAll(/octoplane [0-9a-f]{12}/g, 'octoplane VERSION');

describe('the rules', () => {
  it('are in chains that the iptables driver, which removes what it has left, does not take for its own', () => {
    const chains = rulesFor('IPv4', options).flatMap(({ chains: own }) => [...own.keys()]);
    expect(chains.filter(isOurs)).toEqual([]);
  });

  it('of a node with pod networks, IPv4', async () => {
    await expect(textOf('IPv4')).toMatchFileSnapshot('rules.golden.ipv4');
  });

  it('of a node with pod networks, IPv6', async () => {
    await expect(textOf('IPv6')).toMatchFileSnapshot('rules.golden.ipv6');
  });

  it('masquerade no client of a ClusterIP when pods cannot be told from others', () => {
    expect(textOf('IPv4', { clusterCidrs: [] })).not.toContain('octo-ipvs-internal-4 dst,dst -j MARK');
  });

  it('masquerade every client when that is asked for', () => {
    const text = textOf('IPv4', { masqueradeAll: true });
    expect(text).toContain(
      '-A OCTOIPVS-NAT -m set --match-set octo-ipvs-internal-4 dst,dst -j MARK --set-xmark 0x4000/0x4000',
    );
    expect(text).not.toContain('-s 10.244.0.0/16 -j RETURN');
  });

  it('use the bit of the mark that they are told', () => {
    expect(textOf('IPv4', { masqueradeBit: 20 })).toContain('--set-xmark 0x100000/0x100000');
  });

  it('answer a ping as they are told', () => {
    expect(textOf('IPv4', { icmp: 'drop' })).toContain('--icmp-type 8 -j DROP');
    expect(textOf('IPv4', { icmp: 'reject' })).not.toContain('octo-ipvs-ping-4');
  });

  it('leave INVALID packets alone when that is asked for', () => {
    expect(textOf('IPv4', { dropInvalid: false })).not.toContain('INVALID');
  });
});

/** What iptables-save prints once the rules are there, with somebody else's beside. */
function saved(family: 'IPv4' | 'IPv6', changed: Partial<RuleOptions> = {}): string {
  return rulesFor(family, { ...options, ...changed })
    .map(({ table, chains, jumps }) =>
      [
        `*${table}`,
        ':INPUT ACCEPT [0:0]',
        ':DOCKER - [0:0]',
        ...[...chains.keys()].map((chain) => `:${chain} - [0:0]`),
        ...jumps.map(({ chain, rule }) => `-A ${chain} ${rule}`),
        '-A INPUT -j DOCKER',
        ...[...chains].flatMap(([chain, rules]) => rules.map((rule) => `-A ${chain} ${rule}`)),
        'COMMIT',
      ].join('\n'),
    )
    .join('\n');
}

describe('rules in the kernel', () => {
  const wanted = rulesFor('IPv4', options);

  it('are held when all are there', () => {
    expect(areHeld(wanted, parseSaved(saved('IPv4')))).toBe(true);
  });

  it.each([
    ['a rule is missing', (text: string) => text.replace(/-A OCTOIPVS-POST .*\n/, '')],
    ['a rule was added', (text: string) => text.replace(/(-A OCTOIPVS-POST .*\n)/, '$1$1')],
    ['a jump is missing', (text: string) => text.replace(/-A FORWARD .*\n/, '')],
    ['another version wrote them', (text: string) => text.replace(/octoplane [0-9a-f]/, 'octoplane x')],
    ['there are none', () => ''],
  ])('are not held when %s', (_, alter) => {
    expect(areHeld(wanted, parseSaved(alter(saved('IPv4'))))).toBe(false);
  });

  it('are replaced without a trace of the version before, and nobody else is touched', () => {
    const old = parseSaved(saved('IPv4', { dropInvalid: true }));
    const text = rulesFor('IPv4', { ...options, dropInvalid: false })
      .map((rules) => restoreText(rules, old.get(rules.table) ?? []))
      .join('');
    expect(text).toContain('-D FORWARD -m comment');
    expect(text).toContain('-X OCTOIPVS-INVALID');
    expect(text).not.toContain('DOCKER');
  });

  it('are removed with every jump to them first', () => {
    const found = parseSaved(saved('IPv4'));
    const lines = removeText('filter', found.get('filter') ?? []).split('\n');
    const first = (start: string) => lines.findIndex((line) => line.startsWith(start));
    expect(first('-D INPUT')).toBeLessThan(first('-F OCTOIPVS-IN'));
    expect(first('-F OCTOIPVS-REJECT')).toBeLessThan(first('-X OCTOIPVS-IN'));
    expect(lines.join('\n')).not.toContain('DOCKER');
  });
});
