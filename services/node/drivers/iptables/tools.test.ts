import { describe, expect, it } from 'vitest';
import { IptablesError, type Outcome, processRunner, type Runner, restore, save } from './tools.ts';

const busy: Outcome = {
  t: 'failed',
  code: 4,
  stdout: '',
  stderr: 'Another app is currently holding the xtables lock. Stopped waiting after 5s.\n',
};
const done: Outcome = { t: 'done', stdout: '', stderr: '' };

/** Answers in turn. */
function scripted(...outcomes: Outcome[]): Runner {
  return {
    run: async () => {
      const outcome = outcomes.shift();
      if (outcome === undefined) throw new Error('asked once too often');
      return outcome;
    },
  };
}

describe('iptables-restore', () => {
  it('waits for the lock as long as it takes, and tells', async () => {
    const waits: number[] = [];
    await restore(scripted(busy, busy, done), 'iptables-restore', '', (_command, turns) => waits.push(turns));
    expect(waits).toEqual([1, 2]);
  });

  it.each([
    ['iptables-restore: line 7 failed\n', 7],
    [
      "iptables-nft-restore v1.8.9 (nf_tables): Port `99999' not valid\nError occurred at line: 3\nTry `x -h' for more.\n",
      3,
    ],
    ['iptables-nft-restore v1.8.9 (nf_tables): \nline 6: RULE_APPEND failed (Too many links): rule in chain X\n', 6],
    ['iptables-restore: cannot allocate memory\n', null],
  ])('names the line at fault: %s', async (stderr, line) => {
    const failing = scripted({ t: 'failed', code: 2, stdout: '', stderr });
    const error = await restore(failing, 'iptables-restore', '', () => undefined).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(IptablesError);
    expect(error).toMatchObject({ line, command: 'iptables-restore' });
    expect(String(error)).not.toContain('Try `');
  });

  it('says that it is not installed', async () => {
    await expect(
      restore(scripted({ t: 'absent', command: 'iptables-restore' }), 'iptables-restore', '', () => undefined),
    ).rejects.toThrow('there is no such program');
  });
});

describe('iptables-save', () => {
  it('takes a table that was never used for an empty one', async () => {
    const never = scripted({ t: 'failed', code: 1, stdout: '', stderr: "table `nat' does not exist\n" });
    expect(await save(never, 'iptables-nft-save', 'nat')).toBe('');
  });
});

describe('a program', () => {
  it('gets its input and gives its output', async () => {
    expect(await processRunner().run('cat', [], 'rules')).toEqual({ t: 'done', stdout: 'rules', stderr: '' });
  });

  it('may end without having read its input', async () => {
    const outcome = await processRunner().run('false', [], 'x'.repeat(1_000_000));
    expect(outcome).toEqual({ t: 'failed', code: 1, stdout: '', stderr: '' });
  });

  it('may not exist', async () => {
    expect(await processRunner().run('no-such-iptables', [])).toEqual({ t: 'absent', command: 'no-such-iptables' });
  });
});
