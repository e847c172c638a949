/**
 * `npm run release`: the npm package and the images of this commit, reproducibly. The package is packed twice, from two builds, and must
 * come out the same, byte for byte; its dependencies are pinned by npm-shrinkwrap.json. Images are labelled with version and
 * revision; `-- --images` builds them, by buildx for amd64 and arm64 where it is there. Nothing is published: what to publish is printed.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const out = join(root, 'dist-release');
const run = (command: string, ...args: readonly string[]): string =>
  execFileSync(command, args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }).trim();

const { version } = JSON.parse(readFileSync(join(root, 'services/cli/package.json'), 'utf8')) as { version: string };
const revision = run('git', 'rev-parse', 'HEAD');
requireClean();
rmSync(out, { recursive: true, force: true });
const first = pack('first');
const second = pack('second');
if (first.sha256 !== second.sha256)
  throw new Error(`two builds of ${revision} differ: ${first.sha256} and ${second.sha256}`);
console.log(`npm publish ${first.file}   # sha256 ${first.sha256}, the same from two builds`);
if (process.argv.includes('--images')) for (const name of ['controller', 'node']) buildImage(name);

/** A release is of a commit: what is only in the work tree would be in nobody's history. */
function requireClean(): void {
  const changed = run('git', 'status', '--porcelain');
  if (changed !== '') throw new Error(`commit or remove what is not committed first:\n${changed}`);
  if (!readFileSync(join(root, 'CHANGELOG.md'), 'utf8').includes(version))
    throw new Error(`CHANGELOG.md says nothing of ${version}`);
}

function pack(name: string): { readonly file: string; readonly sha256: string } {
  const directory = join(out, name);
  mkdirSync(directory, { recursive: true });
  run(process.execPath, join(root, 'deploy/build.ts'));
  // npm gives every file of a package one fixed time.
  const file = join(directory, run('npm', 'pack', join(root, 'dist'), '--silent', '--pack-destination', directory));
  return { file, sha256: createHash('sha256').update(readFileSync(file)).digest('hex') };
}

function buildImage(name: string): void {
  const image = `octoplane-${name}:${version}`;
  const common = [
    '-f',
    `deploy/${name}.Dockerfile`,
    '--build-arg',
    `VERSION=${version}`,
    '--build-arg',
    `REVISION=${revision}`,
  ];
  const base = process.env['BASE'] ? ['--build-arg', `BASE=${process.env['BASE']}`] : [];
  if (hasBuildx()) {
    const archive = join(out, `octoplane-${name}.oci.tar`);
    const reproducible = [
      '--provenance=false',
      '--sbom=true',
      '--output',
      `type=oci,dest=${archive},rewrite-timestamp=true`,
    ];
    const epoch = ['--build-arg', `SOURCE_DATE_EPOCH=${run('git', 'log', '-1', '--format=%ct')}`];
    run(
      'docker',
      'buildx',
      'build',
      '--platform',
      'linux/amd64,linux/arm64',
      ...common,
      ...base,
      ...epoch,
      ...reproducible,
      '-t',
      image,
      '.',
    );
    console.log(`${archive}   # amd64 and arm64: push with skopeo or crane`);
  } else {
    run('docker', 'build', '--network=host', ...common, ...base, '-t', image, '.');
    console.log(`docker push ${image}   # this machine's architecture: there is no buildx`);
  }
}

function hasBuildx(): boolean {
  try {
    execFileSync('docker', ['buildx', 'version'], { stdio: 'ignore' });
    return true;
  } catch {
    // Docker of Debian 12 is without it.
    return false;
  }
}
