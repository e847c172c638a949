import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, watch, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inNetns } from './libc.ts';
import { addressBatches, type LabPlan, linkBatch } from './plan.ts';

export const bpfFs = '/sys/fs/bpf';
const netnsDir = '/run/netns';
export const netnsPath = (name: string): string => join(netnsDir, name);

/** Everything of a lab begins with this and the process that owns it, so that a later run can tell what was left behind. */
const prefixForm = /^octolab-(\d+)-\d+/;
/** A private directory for its files. */
export const labDir = (prefix: string): string => join(tmpdir(), prefix);

let created = 0;
export const newPrefix = (): string => `octolab-${process.pid}-${++created}`;

export function buildNetwork(plan: LabPlan): void {
  runIpBatch(linkBatch(plan));
  for (const [netns, batch] of addressBatches(plan)) {
    inNetns(netnsPath(netns), () => {
      for (const [file, value] of sysctls(plan, netns)) writeFileSync(join('/proc/sys/net', file), value);
      runIpBatch(batch);
    });
  }
}

/** Only inside the lab's own namespaces. */
function sysctls(plan: LabPlan, netns: string): [file: string, value: string][] {
  const isNode = plan.hosts.some((host) => host.kind === 'node' && host.places[0].netns === netns);
  const everywhere: [string, string][] = [
    ['ipv6/conf/default/accept_dad', '0'],
    ['ipv6/conf/all/accept_dad', '0'],
    ['ipv6/conf/all/accept_ra', '0'],
    ['ipv6/conf/default/accept_ra', '0'],
    // Ping sockets, which need no raw packets.
    ['ipv4/ping_group_range', '0 2147483647'],
    // Every refusal is told; a real client meets the limit seldom, a test soon.
    ['ipv4/icmp_ratelimit', '0'],
    ['ipv6/icmp/ratelimit', '0'],
  ];
  const forwarding: [string, string][] = [
    ['ipv4/ip_forward', '1'],
    ['ipv6/conf/all/forwarding', '1'],
  ];
  return isNode ? [...everywhere, ...forwarding] : everywhere;
}

/** `ip -batch` in this thread's namespace; its first complaint is the error. */
export function runIpBatch(batch: string): void {
  const { status, stderr, error } = spawnSync('ip', ['-batch', '-'], { input: batch, encoding: 'utf8' });
  if (error) throw new Error(`the lab needs the "ip" command (package iproute2): ${error.message}`, { cause: error });
  if (status !== 0) throw new Error(`ip -batch: ${stderr.trim()}\nin\n${numbered(batch)}`);
}

const numbered = (text: string): string =>
  text
    .split('\n')
    .map((line, i) => `${i + 1}: ${line}`)
    .join('\n');

/** Where cgroup v2 is mounted: beside v1 ("hybrid"), or alone. */
export function cgroupRoot(): string {
  const root = ['/sys/fs/cgroup/unified', '/sys/fs/cgroup'].find((dir) => existsSync(join(dir, 'cgroup.controllers')));
  if (!root)
    throw new Error(
      'the lab needs cgroup v2: mount it with "mount -t cgroup2 none /sys/fs/cgroup/unified" and run again',
    );
  return root;
}

export function makeCgroups(prefix: string, hosts: readonly string[]): string {
  const parent = join(cgroupRoot(), prefix);
  for (const host of hosts) mkdirSync(join(parent, host), { recursive: true });
  return parent;
}

/** Kills what is left in the cgroups of a lab, then removes them and its namespaces. Absent ones are no error. */
export async function removeLeftovers(prefix: string): Promise<void> {
  const cgroup = join(cgroupRoot(), prefix);
  if (existsSync(cgroup)) {
    writeFileSync(join(cgroup, 'cgroup.kill'), '1');
    await emptied(cgroup);
    removeCgroupTree(cgroup);
  }
  const names = readdirIfThere(netnsDir).filter((name) => name.startsWith(`${prefix}-`));
  if (names.length > 0) runIpBatch(`${names.map((name) => `netns delete ${name}`).join('\n')}\n`);
  for (const dir of [labDir(prefix), join(bpfFs, prefix)]) rmSync(dir, { recursive: true, force: true });
}

/** What labs of processes that are gone have left behind. */
export async function reapDeadLabs(): Promise<void> {
  const names = [...readdirIfThere(netnsDir), ...readdirIfThere(cgroupRoot())];
  const prefixes = new Set<string>();
  for (const name of names) {
    const match = prefixForm.exec(name);
    if (match && !existsSync(`/proc/${match[1]}`)) prefixes.add(match[0]);
  }
  for (const prefix of prefixes) await removeLeftovers(prefix);
}

/** The kernel announces in cgroup.events, as an inotify event, when the last process of a cgroup's tree is gone. */
async function emptied(cgroup: string): Promise<void> {
  const events = join(cgroup, 'cgroup.events');
  const isEmpty = () => readFileSync(events, 'utf8').includes('populated 0');
  if (isEmpty()) return;
  await new Promise<void>((resolve, reject) => {
    const watcher = watch(events, () => {
      if (!isEmpty()) return;
      watcher.close();
      resolve();
    });
    watcher.on('error', reject);
    if (isEmpty()) {
      watcher.close();
      resolve();
    }
  });
}

function removeCgroupTree(dir: string): void {
  for (const entry of readdirSync(dir, { withFileTypes: true }))
    if (entry.isDirectory()) removeCgroupTree(join(dir, entry.name));
  rmdirSync(dir);
}

const readdirIfThere = (dir: string): string[] => (existsSync(dir) ? readdirSync(dir) : []);
