import { type Ip, ipToBytes } from '@octoplane/model/address.ts';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { endpoint, entry, here } from './node.ts';
import { PacketPrograms, verdicts } from './packet-programs.ts';
import { read, udp } from './wire.ts';

/** A UDP client that never stops asking, whatever becomes of the endpoints (P30). */
describe('a flow', () => {
  let programs: PacketPrograms;
  beforeAll(async () => {
    programs = await PacketPrograms.open();
  });
  afterAll(() => programs[Symbol.asyncDispose]());

  const text = (ip: Ip) => (ip.includes(':') ? Buffer.from(ipToBytes(ip)).toString('hex') : ip);
  const families = [
    { client: '172.18.0.250', service: '198.51.100.1', pods: ['10.244.1.10', '10.244.1.11', '10.244.1.12'] },
    {
      client: 'fd00:18::250',
      service: '2001:db8:51::1',
      pods: ['fd00:244:1::a', 'fd00:244:1::b', 'fd00:244:1::c'],
    },
  ] as const;
  /** Which pods the service has from now on, whether sets that were left are free again by then, whether the client asks. */
  const step = fc.record({ pods: fc.subarray([0, 1, 2]), grace: fc.boolean(), asks: fc.boolean() });

  it.each(families)('to $service keeps its endpoint as long as there is one, and never any longer', async (family) => {
    const web = (pods: readonly Ip[]) =>
      entry('web', {
        protocol: 'UDP',
        externalIps: [family.service],
        externalPolicy: 'Local',
        usableFamilies: 0,
        endpoints: pods.map((ip) => endpoint(ip.includes(':') ? `[${ip}]:8080` : `${ip}:8080`, here)),
      });
    const ask = () =>
      programs.run('octo_outside', udp({ from: family.client, to: family.service }, { sport: 5000, dport: 80 }));
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 8 }), async (steps) => {
        await programs.want();
        programs.forgetFlows();
        let last = '';
        for (const { pods, grace, asks } of steps) {
          const wanted = pods.map((i) => text(family.pods[i] ?? ''));
          await programs.want(web(pods.map((i) => family.pods[i] ?? '')));
          if (grace) await programs.graceIsOver();
          if (!asks) continue;
          const { verdict, packet } = ask();
          // An error about the datagram, on its way back.
          expect(verdict).toBe(wanted.length === 0 ? verdicts.redirect : verdicts.pass);
          const reached = wanted.length === 0 ? '' : read(packet).to;
          if (wanted.includes(last)) expect(reached).toBe(last);
          else if (wanted.length > 0) expect(wanted).toContain(reached);
          last = reached;
        }
      }),
      { numRuns: 60 },
    );
  });
});
