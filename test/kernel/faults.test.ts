import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { Cluster } from '../support/lab/cluster.ts';
import { Daemon } from '../support/lab/daemon.ts';
import { Lab } from '../support/lab/lab.ts';
import { serviceManifest, sliceManifest } from '../support/lab/manifests.ts';
import { SourceDir } from '../support/lab/source-dir.ts';
import { describeEachDriver } from '../support/scenarios/each-driver.ts';
import { neighbourText, putNeighbour } from '../support/scenarios/neighbour.ts';
import { listensOn } from '../support/scenarios/sockets.ts';

/** What goes wrong around the daemons, with real ones: nothing that is programmed is lost, and whoever is at fault is named. */
const vip = '10.96.0.10';
const ports = [{ port: 8080 }];

await describeEachDriver((driver, column) => {
  let lab: Lab;
  let cluster: Cluster;

  beforeAll(async () => {
    lab = await Lab.create({ families: ['IPv4'] });
    for (const { name } of lab.nodes) putNeighbour(lab, name, column);
    cluster = await Cluster.start(lab, { driver, nodeFlags: ['--sync-period', '2s'] });
    for (const pod of ['pod-1a', 'pod-2a']) await lab.serve(pod, 'IPv4', 8080);
  });
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await lab?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    mkdirSync(cluster.source.path, { recursive: true });
    for (const file of readdirSync(cluster.source.path))
      if (!file.startsWith('node-')) rmSync(join(cluster.source.path, file));
    cluster.source.put(serviceManifest('web', { clusterIP: vip, ports: [{ port: 80 }] }));
    cluster.source.put(sliceManifest(lab, 'web', ['pod-1a'], ports));
    await cluster.settled();
  });

  const answers = async (from = 'pod-1b', ip = vip) => {
    const outcome = await lab.dial(from, ip, 80);
    return outcome.t === 'answered' ? outcome.by : outcome.t;
  };

  it('nobody listens on the service address', async () => {
    expect(await answers()).toBe('pod-1a');
    expect(await lab.ping('pod-1b', vip)).toEqual({ t: 'replied' });
    expect(lab.within('node-1', () => listensOn(80))).toBe(false);
    const addresses = lab.within('node-1', () => spawnSync('ip', ['address'], { encoding: 'utf8' }).stdout);
    if (driver !== 'ipvs') expect(addresses).not.toContain(vip);
  });

  it('a manifest that is not YAML, half a manifest, and bad objects leave the others as they are', async () => {
    cluster.source.write('torn.yaml', 'kind: Service\nmetadata: {name: torn, nam');
    cluster.source.write(
      'bad.json',
      JSON.stringify(serviceManifest('bad', { clusterIP: '10.96.0.77', ports: [{ port: 70_000 }] })),
    );
    cluster.source.write(
      'z-thief.json',
      JSON.stringify(serviceManifest('z-thief', { clusterIP: vip, ports: [{ port: 80 }] })),
    );
    cluster.source.put(serviceManifest('good', { clusterIP: '10.96.0.11', ports: [{ port: 80 }] }));
    cluster.source.put(sliceManifest(lab, 'good', ['pod-2a'], ports));
    await cluster.settled();
    expect(await answers()).toBe('pod-1a');
    expect(await answers('pod-1b', '10.96.0.11')).toBe('pod-2a');
    const { rejected } = await cluster.status();
    const named = rejected.map(({ object, location, reason }) => `${object} ${location} ${reason}`).join('\n');
    for (const word of ['torn.yaml', 'Service default/bad', '70000', 'Service default/z-thief', vip])
      expect(named).toContain(word);
    for (const file of ['torn.yaml', 'bad.json', 'z-thief.json']) rmSync(join(cluster.source.path, file));
    await cluster.settled();
    await cluster.untilStatus((status) => status.rejected.length === 0);
  });

  it('a write in two halves changes nothing before it is whole', async () => {
    const whole = JSON.stringify(sliceManifest(lab, 'web', ['pod-2a'], ports));
    const file = join(cluster.source.path, 'endpointslice-web-ipv4.json');
    writeFileSync(file, whole.slice(0, whole.length / 2));
    await cluster.settled();
    expect(await answers()).toBe('pod-1a');
    writeFileSync(file, whole);
    await cluster.settled();
    expect(await answers()).toBe('pod-2a');
  });

  it('a source directory that goes is stale, not empty; when it is back, so are its changes', async () => {
    const away = `${cluster.source.path}.away`;
    renameSync(cluster.source.path, away);
    expect(await answers()).toBe('pod-1a');
    const stale = await cluster.untilStatus(({ sources }) => sources.some(({ reason }) => reason !== ''));
    expect(stale.sources[0]?.reason).toContain(cluster.source.path);
    expect(await answers()).toBe('pod-1a');
    renameSync(away, cluster.source.path);
    cluster.source.put(sliceManifest(lab, 'web', ['pod-2a'], ports));
    await cluster.settled();
    expect(await answers()).toBe('pod-2a');
  });

  it('a daemon that stands still is named by wait, and catches up', async () => {
    cluster.node('node-2').signal('SIGSTOP');
    cluster.source.put(sliceManifest(lab, 'web', ['pod-2a'], ports));
    const others = await cluster.settled({ nodes: ['node-1', 'node-3'] });
    expect(others.done).toBe(true);
    expect(await answers()).toBe('pod-2a');
    const late = await cluster.wait({ service: 'default/web' }, 1_500);
    expect(late).toMatchObject({ done: false, late: [{ name: 'node-2' }] });
    cluster.node('node-2').signal('SIGCONT');
    await cluster.settled();
    expect(await answers('pod-2b')).toBe('pod-2a');
  });

  it('rules that another program flushed are put back', async () => {
    await lab.wipeRules('node-1', driver);
    await untilAnswered(lab, 'pod-1b', vip, 80);
    await cluster.settled();
    expect(await answers()).toBe('pod-1a');
    expect(neighbourText(lab, 'node-1', column)).not.toBe('');
  });

  it('a daemon that starts without a controller keeps what it finds, and repairs it from its journal', async () => {
    await cluster.controller.stop('SIGKILL');
    await cluster.node('node-1').stop('SIGKILL');
    cluster.node('node-1').start();
    expect(await answers()).toBe('pod-1a');
    await cluster.node('node-1').stop('SIGKILL');
    await lab.wipeRules('node-1', driver);
    cluster.node('node-1').start();
    await untilAnswered(lab, 'pod-1b', vip, 80);
    cluster.controller.start();
    await cluster.settled();
    expect(await answers()).toBe('pod-1a');
  });

  it('packets that conntrack finds invalid do not pass, and a connection outlives them', async () => {
    await using flow = await lab.open('pod-2b', vip, 80);
    const before = await flow.ask();
    if (before.t !== 'answered') throw new Error(before.t);
    const arrives = await lab.forgedArrives('pod-1a', 8080, 'pod-2b', before.seenAs.port, 500);
    // The socket was connected to its endpoint: nothing is translated, and the client's own kernel drops what is out of window.
    expect(arrives).toBe(driver === 'ebpf');
    expect(await flow.ask()).toMatchObject({ t: 'answered', by: 'pod-1a' });
  });

  it('a health-check node port that is taken is reported, and nothing else suffers', async () => {
    await lab.serveOn({ at: 'node-1', ip: '0.0.0.0', port: 32_001, transport: 'TCP' });
    cluster.source.put({
      ...serviceManifest('checked', {
        type: 'LoadBalancer',
        clusterIP: '10.96.0.12',
        externalTrafficPolicy: 'Local',
        healthCheckNodePort: 32_001,
        ports: [{ port: 80, nodePort: 30_081 }],
      }),
    });
    cluster.source.put(sliceManifest(lab, 'checked', ['pod-1a'], ports));
    await cluster.settled();
    expect(await answers('pod-1b', '10.96.0.12')).toBe('pod-1a');
    expect(cluster.node('node-1').log(400)).toMatch(/32001/);
    cluster.source.remove('Service', 'checked');
    cluster.source.remove('EndpointSlice', 'checked-ipv4');
    await cluster.settled();
  });

  it('--cleanup removes what is ours, and nothing else', async () => {
    const neighbour = neighbourText(lab, 'node-3', column);
    await cluster.node('node-3').stop();
    expect(await answers('pod-3b')).toBe('pod-1a');
    await using cleanup = new Daemon(lab, 'node-3', 'cleanup', [
      ...['node', '--cleanup', '--state-dir', cluster.stateDirOf('node-3')],
      ...['--cgroup-path', lab.cgroupOf('node-3'), '--bpf-fs', lab.bpfFsOf('node-3')],
    ]);
    cleanup.start();
    expect(await cleanup.ended(), cleanup.log()).toBe(0);
    expect(await lab.dumpRules('node-3', driver)).toBe('');
    expect((await lab.dial('pod-3b', vip, 80, { timeoutMs: 500 })).t).not.toBe('answered');
    expect(neighbourText(lab, 'node-3', column)).toBe(neighbour);
    cluster.node('node-3').start();
    await cluster.settled();
    expect(await answers('pod-3b')).toBe('pod-1a');
  });

  it('a source directory that is deleted and made anew goes on', async () => {
    rmSync(cluster.source.path, { recursive: true });
    expect(await answers()).toBe('pod-1a');
    mkdirSync(cluster.source.path);
    const again = new SourceDir(cluster.source.path);
    for (const { name } of lab.nodes) cluster.putNode(name);
    again.put(serviceManifest('web', { clusterIP: vip, ports: [{ port: 80 }] }));
    again.put(sliceManifest(lab, 'web', ['pod-2a'], ports));
    await cluster.settled();
    expect(await answers()).toBe('pod-2a');
  });
});

/** Nothing tells a client that rules are back: it tries, as clients do. */
async function untilAnswered(lab: Lab, from: string, ip: string, port: number): Promise<void> {
  const until = Date.now() + 20_000;
  for (;;) {
    const outcome = await lab.dial(from, ip, port, { timeoutMs: 200 });
    if (outcome.t === 'answered') return;
    if (Date.now() > until) throw new Error(`${ip} port ${port} does not answer ${from} again`);
  }
}
