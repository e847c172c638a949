import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const root = join(import.meta.dirname, '../../..');

/** Built from what is here, because nothing can be pulled on every machine. As variables of docker-compose.yml. */
export const images = {
  BASE: 'octoplane-test/base',
  CONTROLLER_IMAGE: 'octoplane-test/controller',
  NODE_IMAGE: 'octoplane-test/node',
  ETCD_IMAGE: 'octoplane-test/etcd',
} as const;

/** Debian's etcd, where the compose file has the one of its makers. */
const etcdDockerfile = `
ARG BASE
FROM \${BASE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends etcd-server && rm -rf /var/lib/apt/lists/*
`;

/** All images that the tests use, from the Dockerfiles that users have; only their base is another. */
export async function buildImages(say: (text: string) => void): Promise<void> {
  if (!isThere(images.BASE)) {
    say('a base image: Debian and Node 24');
    await importBase();
  }
  say('images: controller, node, etcd');
  await dockerBuild(images.CONTROLLER_IMAGE, ['-f', 'deploy/controller.Dockerfile', '.']);
  await dockerBuild(images.NODE_IMAGE, ['-f', 'deploy/node.Dockerfile', '.']);
  await dockerBuild(images.ETCD_IMAGE, ['-'], etcdDockerfile);
}

/**
 * What docker.io/library/node:24-bookworm-slim is, made of this machine's parts: Debian by debootstrap, the Node and the npm that run
 * this, and the authorities that this machine trusts, as a proxy before the npm registry may need them.
 */
async function importBase(): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'octoplane-base-'));
  try {
    const suite = execFileSync('sh', ['-c', '. /etc/os-release; echo $VERSION_CODENAME'], { encoding: 'utf8' }).trim();
    await run('debootstrap', ['--variant=minbase', '--include=ca-certificates', suite, dir]);
    rmSync(join(dir, 'var/cache/apt'), { recursive: true, force: true });
    mkdirSync(join(dir, 'usr/local/lib/node_modules'), { recursive: true });
    copyFileSync(process.execPath, join(dir, 'usr/local/bin/node'));
    cpSync(npmDirectory(), join(dir, 'usr/local/lib/node_modules/npm'), { recursive: true });
    symlinkSync('../lib/node_modules/npm/bin/npm-cli.js', join(dir, 'usr/local/bin/npm'));
    const authorities = '/etc/ssl/certs/ca-certificates.crt';
    if (existsSync(authorities)) copyFileSync(authorities, join(dir, authorities));
    // As Debian's own images have it: packages that were installed are not kept.
    writeFileSync(
      join(dir, 'etc/apt/apt.conf.d/docker-clean'),
      'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\nDPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };\n',
    );
    const change = `ENV NODE_EXTRA_CA_CERTS=${authorities}`;
    await run('sh', ['-c', `tar -C "$0" -c . | docker import -c "$1" - "$2"`, dir, change, images.BASE]);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Of the npm that started this, or of the one on the path. */
function npmDirectory(): string {
  const cli = process.env['npm_execpath'] ?? realpathSync(execFileSync('which', ['npm'], { encoding: 'utf8' }).trim());
  return dirname(createRequire(cli).resolve('../package.json'));
}

/** On the network of this machine: a build needs Debian's packages and npm's, and our own engine forwards nothing. */
const dockerBuild = (tag: string, args: readonly string[], input = '') =>
  run(
    'docker',
    ['build', '--quiet', '--network=host', '--build-arg', `BASE=${images.BASE}`, '-t', tag, ...args],
    input,
  );

function isThere(image: string): boolean {
  try {
    execFileSync('docker', ['image', 'inspect', image], { stdio: 'ignore' });
    return true;
  } catch {
    // The one reason for which it fails here.
    return false;
  }
}

async function run(command: string, args: readonly string[], input = ''): Promise<void> {
  const child = spawn(command, args, { cwd: root, stdio: ['pipe', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text));
  child.stdin.end(input);
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} failed:\n${output.slice(-6_000)}`);
}
