import { existsSync, readFileSync, statSync } from 'node:fs';
import { release } from 'node:os';
import type { DriverOptions, Probe } from '../driver.ts';
import { libbpf } from './libbpf.ts';
import { objectPath } from './object.ts';
import { isOn } from './pins.ts';

/** Helpers that the programs call, with the kernels that brought them. BPF_PROG_TYPE_CGROUP_SOCK_ADDR is 18. */
const helpers = [
  { name: 'bpf_sk_storage_get in socket programs', programType: 18, helper: 107, since: '5.8' },
  { name: 'bpf_get_netns_cookie', programType: 18, helper: 122, since: '5.7' },
  { name: 'bpf_loop', programType: 18, helper: 181, since: '5.17' },
  { name: 'bpf_set_retval', programType: 18, helper: 187, since: '5.18' },
] as const;

/** What stands in the way, as sentences. Loads nothing and leaves nothing. */
export function probeKernel(options: DriverOptions): Probe {
  const lacks = [...fileLacks(options), ...kernelLacks()];
  if (lacks.length > 0) return { t: 'unable', lacks };
  return {
    t: 'able',
    details: [
      `Linux ${release()}`,
      `cgroup ${options.cgroupPath}`,
      `bpffs ${options.bpfFsPath}`,
      ...cgroupWarnings(options.cgroupPath),
    ],
  };
}

/** Sockets outside the directory are not served, which is an error in most places and meant in some. */
export function cgroupWarnings(path: string): readonly string[] {
  // cgroup namespaces show another directory as the root; the root itself has the number 1.
  if (statSync(path).ino === 1) return [];
  return [
    `${path} is not the root of the cgroup hierarchy: only sockets of processes below it are served. In a container, mount the host's.`,
  ];
}

function whereCgroupIs(): string {
  const line = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .find((mount) => mount.split(' ')[2] === 'cgroup2');
  const path = line?.split(' ')[1];
  return path === undefined ? 'mount it with "mount -t cgroup2 none DIRECTORY".' : `pass --cgroup-path ${path}.`;
}

function* fileLacks({ bpfFsPath, cgroupPath }: DriverOptions): Generator<string> {
  if (!['sockets', 'packets', 'ends', 'direct'].every((name) => existsSync(objectPath(name))))
    yield 'The compiled programs are missing: in a checkout, run "npm run build" (it needs clang).';
  if (!isOn('bpf', bpfFsPath))
    yield `${bpfFsPath} is not a BPF file system: run "mount -t bpf bpf ${bpfFsPath}", or name another with --bpf-fs.`;
  if (!existsSync(cgroupPath) || !isOn('cgroup2', cgroupPath))
    yield `${cgroupPath} is not a cgroup v2 directory: ${whereCgroupIs()}`;
}

function* kernelLacks(): Generator<string> {
  const bpf = loadLibrary();
  if (bpf === null) {
    yield 'libbpf.so.1 is missing: install the package libbpf1 (1.0 or later).';
    return;
  }
  if (!existsSync('/sys/kernel/btf/vmlinux'))
    yield `This kernel (${release()}) does not describe its types (BTF): it must be built with CONFIG_DEBUG_INFO_BTF.`;
  if (olderThan(6, 6)) yield `This kernel (${release()}) lacks tcx, where packets are translated: Linux 6.6 has it.`;
  for (const { name, programType, helper, since } of helpers)
    if (bpf.probeHelper(programType, helper, null) === 0)
      yield `This kernel (${release()}) lacks ${name}: Linux ${since} has it.`;
}

/** There is no helper to ask for: tcx is a place, not a call. */
function olderThan(major: number, minor: number): boolean {
  const [ownMajor = 0, ownMinor = 0] = release()
    .split('.')
    .map((part) => Number.parseInt(part, 10));
  return ownMajor < major || (ownMajor === major && ownMinor < minor);
}

function loadLibrary(): ReturnType<typeof libbpf> | null {
  try {
    return libbpf();
  } catch {
    // The one reason for which loading fails; the caller says it in a sentence.
    return null;
  }
}
