import { describe, expect, it } from 'vitest';
import { chooseFlavour, findHoldings, type Holdings } from './flavour.ts';
import { type Outcome, programsOf, type Runner } from './tools.ts';

const holdings = (flavour: 'nft' | 'legacy', changed: Partial<Holdings> = {}): Holdings => ({
  programs: programsOf(flavour),
  ours: false,
  hint: false,
  rules: 0,
  ...changed,
});

const chosen = (...found: Holdings[]) => chooseFlavour(found)?.flavour ?? null;

describe('which flavour of iptables', () => {
  it('stays with the one that holds our rules, whatever else is there', () => {
    expect(chosen(holdings('nft', { hint: true, rules: 90 }), holdings('legacy', { ours: true }))).toBe('legacy');
  });

  it('follows the hint of kubelet before it counts rules', () => {
    expect(chosen(holdings('nft', { rules: 90 }), holdings('legacy', { hint: true }))).toBe('legacy');
  });

  it('goes where the rules are, and else to nft', () => {
    expect(chosen(holdings('nft', { rules: 1 }), holdings('legacy', { rules: 2 }))).toBe('legacy');
    expect(chosen(holdings('legacy'), holdings('nft'))).toBe('nft');
  });

  it('takes the one there is, or none', () => {
    expect(chosen(holdings('legacy'))).toBe('legacy');
    expect(chosen()).toBeNull();
  });

  it('looks into what the programs print', async () => {
    const { found } = await findHoldings(
      machine({
        'iptables-nft-save': '*nat\n:OCTO-IP - [0:0]\n-A PREROUTING -j X\nCOMMIT\n',
        'ip6tables-nft-save': '*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n',
      }),
    );
    expect(found).toEqual([holdings('nft', { ours: true, hint: true, rules: 1 })]);
  });

  it('uses the plain names where no flavour has a name of its own', async () => {
    const { found } = await findHoldings(
      machine({ iptables: 'iptables v1.8.4 (legacy)', 'iptables-save': '-A INPUT -j DROP\n' }),
    );
    expect(found.map(({ programs, rules }) => [programs.flavour, programs.restore.IPv4, rules])).toEqual([
      ['legacy', 'iptables-restore', 1],
    ]);
  });

  it('says what an unusable program said', async () => {
    const denied: Runner = {
      run: async () => ({ t: 'failed', code: 4, stdout: '', stderr: 'Permission denied (you must be root)\n' }),
    };
    expect(await findHoldings(denied)).toEqual({ found: [], problems: ['Permission denied (you must be root)'] });
  });
});

/** Programs that exist, and what they print. */
const machine = (programs: Readonly<Record<string, string>>): Runner => ({
  run: async (command): Promise<Outcome> => {
    const stdout = programs[command];
    return stdout === undefined ? { t: 'absent', command } : { t: 'done', stdout, stderr: '' };
  },
});
