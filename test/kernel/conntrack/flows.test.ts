import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { EntryChange } from '@octoplane/model/delta.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import { compareEndpoints, type Endpoint, type Entry, endpointFlags } from '@octoplane/model/rule-set.ts';
import { systemClock } from '@octoplane/node/clock.ts';
import { flowCleaner } from '@octoplane/node/conntrack/cleaner.ts';
import { Conntrack } from '@octoplane/node/conntrack/ctnetlink.ts';
import { silentLogger } from '@octoplane/node/testing/logger.ts';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { enterOwnNetwork, feed, run } from '../../contract/namespace.ts';

/** Real UDP flows through real DNAT rules in a namespace of this process's own; the rules are nft's, the clean-up is ours. */

const addresses = {
  IPv4: { vip: '10.96.0.1', a: '10.244.1.1', b: '10.244.1.2', node: '172.18.0.1', any: '0.0.0.0', nft: 'ip' },
  IPv6: { vip: 'fd00:96::1', a: 'fd00:244:1::1', b: 'fd00:244:1::2', node: 'fd00:18::1', any: '::', nft: 'ip6' },
} as const;
const nodePort = 30_053;

beforeAll(() => {
  enterOwnNetwork();
  run('ip', 'link', 'add', 'octo0', 'type', 'veth', 'peer', 'name', 'octo1');
  run('ip', 'link', 'set', 'octo1', 'up');
  run('ip', 'link', 'set', 'octo0', 'up');
  for (const { a, b, node } of Object.values(addresses))
    for (const ip of [a, b, node])
      run(
        'ip',
        'address',
        'add',
        ip.includes(':') ? `${ip}/128` : `${ip}/32`,
        'dev',
        'octo0',
        ...(ip.includes(':') ? ['nodad'] : []),
      );
  run('ip', 'route', 'add', '10.96.0.0/12', 'dev', 'octo0');
  run('ip', '-6', 'route', 'add', 'fd00:96::/108', 'dev', 'octo0');
  // A neighbour entry, so that what is sent untranslated really leaves and is kept track of.
  run('ip', 'neigh', 'add', '10.96.0.1', 'lladdr', '02:00:00:00:00:01', 'dev', 'octo0');
  run('ip', 'neigh', 'add', 'fd00:96::1', 'lladdr', '02:00:00:00:00:01', 'dev', 'octo0');
});

const open: { close(): void }[] = [];
let conntrack = Conntrack.open();

beforeEach(() => {
  conntrack = Conntrack.open();
  run('conntrack', '-F');
});

afterEach(() => {
  for (const socket of open.splice(0)) socket.close();
  conntrack[Symbol.dispose]();
});

type Family = keyof typeof addresses;

/** Where the rules send the VIP and the node port; null: there are no rules, but flows are tracked. */
function translate(family: Family, to: string | null): void {
  const { nft, vip, node } = addresses[family];
  const target = to && (to.includes(':') ? `[${to}]:5353` : `${to}:5353`);
  const rules =
    target === null
      ? 'ct state new accept'
      : `${nft} daddr ${vip} udp dport 53 dnat to ${target}\n${nft} daddr ${node} udp dport ${nodePort} dnat to ${target}`;
  feed(
    `table ${nft} octotest\ndelete table ${nft} octotest\ntable ${nft} octotest { chain output { type nat hook output priority -100;\n${rules}\n}\n}\n`,
    'nft',
    '-f',
    '-',
  );
}

async function socketOn(family: Family, ip: string, port: number): Promise<Socket> {
  const socket = createSocket(family === 'IPv4' ? 'udp4' : 'udp6');
  open.push(socket);
  socket.bind(port, ip);
  await once(socket, 'listening');
  return socket;
}

async function backend(family: Family, ip: string): Promise<void> {
  const socket = await socketOn(family, ip, 5353);
  socket.on('message', (message, from) => socket.send(`${ip} ${message}`, from.port, from.address));
}

/** Sends and, where an answer is expected, waits for it. */
async function ask(client: Socket, ip: string, port: number, answered = true): Promise<string> {
  const sent = Promise.withResolvers<void>();
  client.send('hello', port, ip, (error) => (error ? sent.reject(error) : sent.resolve()));
  await sent.promise;
  if (!answered) return '';
  const [message] = (await once(client, 'message')) as [Buffer];
  return message.toString();
}

function entry(family: Family, endpoints: readonly Endpoint[], frontends: { readonly nodePort?: number } = {}): Entry {
  return {
    key: 'default/dns:53/UDP' as ServicePortKey,
    spec: {
      clusterIps: [addresses[family].vip],
      externalIps: [],
      loadBalancerIps: [],
      nodePort: frontends.nodePort ?? 0,
      internalPolicy: 'Cluster',
      externalPolicy: 'Cluster',
      affinityTimeoutSeconds: 0,
      sourceRanges: [],
      healthCheckNodePort: 0,
      usableFamilies: 3,
    },
    endpoints: endpoints.toSorted(compareEndpoints),
  };
}

const endpoint = (ip: string, flags: number = endpointFlags.cluster): Endpoint => ({ ip, port: 5353, flags });

async function clean(before: Entry | null, after: Entry | null, more: readonly EntryChange[] = []): Promise<void> {
  const failures: string[] = [];
  await flowCleaner({
    conntrack,
    clock: systemClock,
    logger: silentLogger,
    observer: { flowsCleaned: () => undefined, flowCleaningFailed: () => failures.push('failed') },
  }).clean([{ key: 'default/dns:53/UDP' as ServicePortKey, before, after }, ...more]);
  expect(failures).toEqual([]);
}

const flows = (family: Family): string[] =>
  conntrack
    .list({ family, destination: null, destinationPort: null, answers: null, answersPort: null })
    .map(({ destination, destinationPort, answers }) => `${destination} ${destinationPort} -> ${answers}`)
    .toSorted();

describe.each(['IPv4', 'IPv6'] as const)('%s', (family) => {
  const { vip, a, b, node } = addresses[family];

  it('an endpoint that goes takes its flows along, and no others', async () => {
    await backend(family, a);
    await backend(family, b);
    const toA = await socketOn(family, node, 0);
    const toB = await socketOn(family, node, 0);
    const direct = await socketOn(family, node, 0);
    const throughNodePort = await socketOn(family, node, 0);
    translate(family, a);
    expect(await ask(toA, vip, 53)).toBe(`${a} hello`);
    await ask(throughNodePort, node, nodePort);
    await ask(direct, a, 5353);
    translate(family, b);
    await ask(toB, vip, 53);
    // The flow outlives its rule: that is the fault which the clean-up is for.
    expect(await ask(toA, vip, 53)).toBe(`${a} hello`);
    await clean(entry(family, [endpoint(a), endpoint(b)], { nodePort }), entry(family, [endpoint(b)], { nodePort }));
    expect(flows(family)).toEqual([`${vip} 53 -> ${b}`, `${a} 5353 -> ${a}`].toSorted());
    expect(await ask(toA, vip, 53)).toBe(`${b} hello`);
    expect(await ask(throughNodePort, node, nodePort)).toBe(`${b} hello`);
  });

  it('an endpoint that drains keeps its flows', async () => {
    await backend(family, a);
    const client = await socketOn(family, node, 0);
    translate(family, a);
    await ask(client, vip, 53);
    await clean(entry(family, [endpoint(a)]), entry(family, [endpoint(a, endpointFlags.draining)]));
    expect(flows(family)).toEqual([`${vip} 53 -> ${a}`]);
  });

  it('the last endpoint takes its flows along too, and so does the service port', async () => {
    await backend(family, a);
    const client = await socketOn(family, node, 0);
    translate(family, a);
    await ask(client, vip, 53);
    await clean(entry(family, [endpoint(a)]), entry(family, []));
    expect(flows(family)).toEqual([]);
    await ask(client, vip, 53);
    await clean(entry(family, [endpoint(a)]), null);
    expect(flows(family)).toEqual([]);
  });

  it('flows from before there was a rule are cleared when there is one', async () => {
    await backend(family, a);
    const client = await socketOn(family, node, 0);
    translate(family, null);
    await ask(client, vip, 53, false);
    expect(flows(family)).toEqual([`${vip} 53 -> ${vip}`]);
    translate(family, a);
    await clean(entry(family, []), entry(family, [endpoint(a)]));
    expect(flows(family)).toEqual([]);
    expect(await ask(client, vip, 53)).toBe(`${a} hello`);
  });

  it('a frontend that goes takes its flows along', async () => {
    await backend(family, a);
    const client = await socketOn(family, node, 0);
    const other = await socketOn(family, node, 0);
    translate(family, a);
    await ask(client, node, nodePort);
    await ask(other, vip, 53);
    await clean(entry(family, [endpoint(a)], { nodePort }), entry(family, [endpoint(a)]));
    expect(flows(family)).toEqual([`${vip} 53 -> ${a}`]);
  });

  it('an unchanged rule set touches nothing, and many changes at once find the same flows', async () => {
    await backend(family, a);
    const client = await socketOn(family, node, 0);
    translate(family, a);
    await ask(client, vip, 53);
    const others = Array.from({ length: 50 }, (_, i): EntryChange => {
      const key = `default/other-${i}:53/UDP` as ServicePortKey;
      const other = { ...entry(family, [endpoint(b)]), key };
      return { key, before: { ...other, spec: { ...other.spec, clusterIps: [] } }, after: null };
    });
    const same = entry(family, [endpoint(a)]);
    await clean(same, same, others);
    expect(flows(family)).toEqual([`${vip} 53 -> ${a}`]);
    await clean(same, entry(family, [endpoint(b)]), others);
    expect(flows(family)).toEqual([]);
  });
});

it('TCP connections are never touched', async () => {
  const { vip, a, node } = addresses.IPv4;
  const server = createServer((socket) => socket.pipe(socket));
  open.push(server);
  server.listen(5353, a);
  await once(server, 'listening');
  feed(
    `table ip octotest { chain streams { type nat hook output priority -101; ip daddr ${vip} tcp dport 53 dnat to ${a}:5353; }; }`,
    'nft',
    '-f',
    '-',
  );
  const socket = connect({ host: vip, port: 53, localAddress: node });
  open.push({ close: () => socket.destroy() });
  await once(socket, 'connect');
  await clean(entry('IPv4', [endpoint(a)]), null);
  socket.write('still here');
  const [answer] = (await once(socket, 'data')) as [Buffer];
  expect(answer.toString()).toBe('still here');
});
