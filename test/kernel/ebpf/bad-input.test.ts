import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { libbpf } from '@octoplane/node/drivers/ebpf/libbpf.ts';
import { attachTypes } from '@octoplane/node/drivers/ebpf/links.ts';
import { ebpf } from '@octoplane/node/drivers/ebpf/module.ts';
import { LoadedObject, objectPath } from '@octoplane/node/drivers/ebpf/object.ts';
import { pinsUnder } from '@octoplane/node/drivers/ebpf/pins.ts';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Lab } from '../../support/lab/lab.ts';
import { EbpfNode, endpoint, entry, mountBpffs } from './node.ts';

/** What a machine or its other users may have in store: one sentence that says what to do, and nothing half-programmed. */
describe('a machine', () => {
  let lab: Lab;
  let bpffs: ReturnType<typeof mountBpffs>;
  let node: EbpfNode;
  beforeAll(async () => {
    lab = await Lab.create({ nodes: 1, podsPerNode: 2, families: ['IPv4'] });
    bpffs = mountBpffs(lab);
    await lab.serve('pod-1b', 'IPv4', 8080);
  });
  afterAll(async () => {
    bpffs[Symbol.dispose]();
    await lab[Symbol.asyncDispose]();
  });
  beforeEach(() => {
    node = new EbpfNode('node-1', { lab, bpffs: bpffs.path });
    return async () => {
      await node.close();
      await node.open();
      await node.driver.cleanup();
      await node.close();
    };
  });

  const vip = '10.96.0.10';
  const web = () => entry('web', { clusterIps: [vip], endpoints: [endpoint('10.244.1.11:8080')] });
  const lacksOf = async (changed: object): Promise<readonly string[]> => {
    const probe = await ebpf.probe({ ...node.options, ...changed });
    return probe.t === 'unable' ? probe.lacks : [];
  };
  /** A probe, or a whole driver that is opened and closed, by another process. */
  const elsewhere = (act: 'probe' | 'open', ...around: readonly string[]): string => {
    const module = join(import.meta.dirname, '../../../services/node/drivers/ebpf/module.ts');
    const { logger: _, ...options } = node.options;
    const script = `import { ebpf } from '${module}';
      const logger = { info() {}, warn() {} };
      const options = { ...${JSON.stringify(options)}, logger };
      if ('${act}' === 'probe') console.log(JSON.stringify(await ebpf.probe(options)));
      else { const driver = await ebpf.open(options); console.log((await driver.dump()).size); await driver.close(); }`;
    const argv = [...around, process.execPath, '--input-type=module', '-e', script];
    return lab.within('node-1', () => execFileSync(argv[0] ?? '', argv.slice(1), { encoding: 'utf8' }));
  };
  const linkPins = () => readdirSync(pinsUnder(node.options.bpfFsPath).links);
  const attachedToCgroup = () =>
    execFileSync('bpftool', ['cgroup', 'show', node.options.cgroupPath], { encoding: 'utf8' });

  it('without a BPF file system, or with a cgroup of version 1', async () => {
    expect(await lacksOf({ bpfFsPath: lab.dir })).toEqual([
      `${lab.dir} is not a BPF file system: run "mount -t bpf bpf ${lab.dir}", or name another with --bpf-fs.`,
    ]);
    const mounts = execFileSync('findmnt', ['-n', '-t', 'cgroup2', '-o', 'TARGET'], { encoding: 'utf8' });
    expect(await lacksOf({ cgroupPath: lab.dir })).toEqual([
      `${lab.dir} is not a cgroup v2 directory: pass --cgroup-path ${mounts.split('\n')[0]}.`,
    ]);
  });

  it('whose kernel does not describe its types', () => {
    const hideTypes = 'mount -t tmpfs none /sys/kernel/btf; exec "$@"';
    const probe = elsewhere('probe', 'unshare', '-m', 'sh', '-c', hideTypes, 'sh');
    expect(JSON.parse(probe)).toMatchObject({
      t: 'unable',
      lacks: [expect.stringMatching(/does not describe its types \(BTF\).*CONFIG_DEBUG_INFO_BTF/)],
    });
  });

  it('where no memory may be locked: maps do not count as such on the kernels that this driver takes', () => {
    expect(elsewhere('open', 'prlimit', '--memlock=0:0')).toBe('0\n');
  });

  it('where the cgroup is not the root of its hierarchy: served, with a warning', async () => {
    const probe = await ebpf.probe(node.options);
    expect(probe).toMatchObject({ t: 'able' });
    expect(probe.t === 'able' ? probe.details : []).toContainEqual(
      expect.stringContaining('is not the root of the cgroup hierarchy'),
    );
    const roots = await ebpf.probe({ ...node.options, cgroupPath: join(lab.cgroup, '..') });
    expect(roots.t === 'able' ? roots.details : []).toHaveLength(3);
  });

  it('where another program has the hook for itself: nothing of ours is attached', async () => {
    using other = foreign('sockets');
    const pin = join(bpffs.path, 'foreign');
    expect(libbpf().pin(other.object.programFd('octo_connect6'), pin)).toBe(0);
    const bpftool = (verb: string) =>
      execFileSync('bpftool', ['cgroup', verb, node.options.cgroupPath, 'connect6', 'pinned', pin]);
    bpftool('attach');
    try {
      const before = attachedToCgroup();
      await expect(node.open()).rejects.toThrow(
        /attaching to cgroup .*another program may hold it for itself alone: "bpftool cgroup show/,
      );
      expect(linkPins()).toEqual([]);
      expect(attachedToCgroup()).toBe(before);
    } finally {
      bpftool('detach');
      execFileSync('rm', [pin]);
    }
  });

  it('where others are attached too: beside them, and they stay', async () => {
    using packets = foreign('packets');
    const shown = lab.within('node-1', () => execFileSync('ip', ['-j', 'link', 'show', 'type', 'veth']));
    const [device] = JSON.parse(shown.toString()) as { ifindex: number; ifname: string }[];
    const index = device?.ifindex ?? 0;
    const link = lab.within('node-1', () =>
      libbpf().createLink(packets.object.programFd('octo_inside'), index, attachTypes.tcxIngress, null),
    );
    expect(link).toBeGreaterThan(0);
    /** Where it is attached, of struct bpf_link_info; 0 once it has been detached. */
    const deviceOfOther = () => {
      const info = Buffer.alloc(64);
      expect(libbpf().info(link, info, Uint32Array.of(info.length))).toBe(0);
      return info.readUInt32LE(16);
    };
    expect(deviceOfOther()).toBe(index);
    await node.open();
    await node.want(web());
    expect(linkPins().filter((name) => name.endsWith(`-${index}`))).not.toEqual([]);
    expect(await lab.dial('pod-1a', vip, 80)).toMatchObject({ by: 'pod-1b' });
    await node.driver.cleanup();
    expect(deviceOfOther()).toBe(index);
    expect(libbpf().closeFd(link)).toBe(0);
  });

  it('with pins of an older layout: they serve until ours do, and then they go', async () => {
    const old = join(node.options.bpfFsPath, 'octoplane/maps-1');
    mkdirSync(old, { recursive: true });
    const map = libbpf().createMap(1, 'frontends', 24, 40, 8, null);
    expect(libbpf().pin(map, join(old, 'frontends'))).toBe(0);
    libbpf().closeFd(map);
    elsewhere('open');
    expect(existsSync(old)).toBe(true);
    await node.open();
    expect(existsSync(old)).toBe(false);
  });

  it('with a map of the same name and another shape: it is named, and nothing is attached', async () => {
    const { maps, links } = pinsUnder(node.options.bpfFsPath);
    mkdirSync(maps, { recursive: true });
    const map = libbpf().createMap(9, 'flows', 40, 64, 16, null);
    const pin = join(maps, 'flows');
    expect(libbpf().pin(map, pin)).toBe(0);
    libbpf().closeFd(map);
    await expect(node.open()).rejects.toThrow(`${pin} is not the map that this release pins there: remove it`);
    expect(readdirSync(links)).toEqual([]);
    execFileSync('rm', [pin]);
  });

  it('where more endpoints go at once than the map of those holds', async () => {
    const many = (name: string, n: number) =>
      entry(name, {
        protocol: 'UDP',
        clusterIps: [`10.96.1.${n}`],
        endpoints: Array.from({ length: 40_000 }, (_, i) => endpoint(`10.${n}.${i >> 8}.${i & 255}:53`)),
      });
    await node.open();
    await node.want(web(), many('one', 1), many('two', 2));
    expect(await node.want(web())).toBe(2);
    expect([...(await node.driver.dump()).keys()]).toEqual([web().key]);
  });
});

function foreign(name: string): { readonly object: LoadedObject } & Disposable {
  const pins = execFileSync('mktemp', ['-d'], { encoding: 'utf8' }).trim();
  execFileSync('mount', ['-t', 'bpf', 'bpf', pins]);
  const object = LoadedObject.load(objectPath(name), pins, {});
  return {
    object,
    [Symbol.dispose]: () => {
      object.close();
      execFileSync('umount', [pins]);
      execFileSync('rmdir', [pins]);
    },
  };
}
