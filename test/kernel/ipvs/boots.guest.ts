import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Lab } from '../../support/lab/lab.ts';

describe('the guest kernel', () => {
  it('has IPVS', () => {
    execFileSync('ipset', ['list', '-name']);
    execFileSync('modprobe', ['-d', '/run/job', 'ip_vs']);
    expect(readFileSync('/proc/net/ip_vs', 'utf8')).toContain('IP Virtual Server');
  });

  it('runs the lab', async () => {
    await using lab = await Lab.create({ nodes: 2 });
    for (const family of ['IPv4', 'IPv6'] as const) {
      await lab.serve('pod-1a', family, 8080);
      const answer = await lab.dial('outside', lab.place('pod-1a').addresses[family], 8080);
      expect(answer).toMatchObject({ t: 'answered', by: 'pod-1a' });
    }
  });
});
