import { execFileSync } from 'node:child_process';
import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { buildPrograms } from '@octoplane/node/bpf/build.ts';
import { defaultCapacity } from '@octoplane/node/drivers/ebpf/capacity.ts';
import { EbpfDriver } from '@octoplane/node/drivers/ebpf/driver.ts';
import { libbpf } from '@octoplane/node/drivers/ebpf/libbpf.ts';
import { detachPinned } from '@octoplane/node/drivers/ebpf/links.ts';
import { pinsUnder } from '@octoplane/node/drivers/ebpf/pins.ts';
import { afterAll } from 'vitest';
import { describeDriverContract } from '../../contract/driver-contract.ts';
import { enterOwnNetwork, run } from '../../contract/namespace.ts';
import { contractOptions } from '../../contract/options.ts';
import { cgroupRoot } from '../../support/lab/build.ts';

buildPrograms();
enterOwnNetwork();
run('ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1');
run('ip', 'addr', 'add', '172.18.0.1/24', 'dev', 'eth0');

const cgroupPath = join(cgroupRoot(), `octoplane-contract-${process.pid}`);
mkdirSync(cgroupPath);
const options = contractOptions({ cgroupPath });
execFileSync('mount', ['-t', 'bpf', 'bpf', options.bpfFsPath]);
afterAll(() => {
  execFileSync('umount', [options.bpfFsPath]);
  options[Symbol.dispose]();
  rmdirSync(cgroupPath);
});

describeDriverContract('ebpf', {
  open: async () => EbpfDriver.open(options, defaultCapacity),
  // A program of somebody else's at the same hook, and what is pinned beside us.
  neighbour: () => run('bpftool', 'net', 'show', 'dev', 'eth1').replace(/octo_\w+ .*/g, ''),
  flush,
  tells: true,
  runs: 20,
});

/** As `rm` on the pins and `bpftool map delete` would. */
function flush(): void {
  const bpf = libbpf();
  const fd = bpf.openPin(join(pinsUnder(options.bpfFsPath).maps, 'frontends'));
  const key = Buffer.alloc(24);
  while (bpf.nextKey(fd, null, key) === 0) bpf.remove(fd, key);
  bpf.closeFd(fd);
  detachPinned(join(options.bpfFsPath, 'octoplane/links/connect4'));
}
