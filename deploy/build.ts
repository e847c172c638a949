/**
 * `npm run build`: what ships. One bundle of the command line, beside the dependencies that bring files of their own, the BPF
 * programs and the protocol (for gRPC reflection), as an npm package in dist/. With --without-programs it takes no clang, and makes
 * all that a controller needs.
 */
import { chmod, copyFile, cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buildPrograms, objectDir } from '@octoplane/node/bpf/build.ts';
import { build } from 'esbuild';
import { type ShippedManifest, shrinkwrap } from './shrinkwrap.ts';

const root = join(import.meta.dirname, '..');
const out = join(root, 'dist');
/** A native module, and what reads .proto files from its own package; by the service that depends on them. */
const beside = { koffi: 'node', 'grpc-health-check': 'controller', '@grpc/reflection': 'controller' } as const;

await rm(out, { recursive: true, force: true });
await mkdir(out);
const { metafile } = await build({
  entryPoints: [join(root, 'services/cli/main.ts')],
  outdir: out,
  bundle: true,
  splitting: true,
  platform: 'node',
  target: 'node24',
  format: 'esm',
  external: Object.keys(beside),
  sourcemap: 'linked',
  legalComments: 'linked',
  metafile: true,
  // CommonJS dependencies call require() for node's own modules.
  banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
});
await chmod(join(out, 'main.js'), 0o755);
if (!process.argv.includes('--without-programs')) await addPrograms();
await cp(join(root, 'proto/octoplane'), join(out, 'proto/octoplane'), { recursive: true });
await copyFile(join(root, 'LICENSE'), join(out, 'LICENSE'));
const manifest = await shippedManifest();
await writeJson('package.json', manifest);
await writeJson('npm-shrinkwrap.json', shrinkwrap(manifest, await readJson('package-lock.json')));

const bytes = Object.entries(metafile.outputs)
  .filter(([file]) => file.endsWith('.js'))
  .reduce((sum, [, output]) => sum + output.bytes, 0);
console.log(`dist/: ${Math.round(bytes / 1024)} KB of JavaScript, ${Object.keys(beside).join(', ')} beside it`);

async function addPrograms(): Promise<void> {
  buildPrograms();
  await mkdir(join(out, 'bpf'));
  for (const name of (await readdir(objectDir)).filter((file) => file.endsWith('.bpf.o')))
    await copyFile(join(objectDir, name), join(out, 'bpf', name));
}

async function shippedManifest(): Promise<ShippedManifest & Record<string, unknown>> {
  const cli = await manifestOf('cli');
  const dependencies: Record<string, string> = {};
  for (const [name, service] of Object.entries(beside)) {
    const range = (await manifestOf(service)).dependencies[name];
    if (range === undefined) throw new Error(`services/${service} does not depend on ${name} any more`);
    dependencies[name] = range;
  }
  return {
    name: 'octoplane',
    version: cli.version,
    description: cli.description,
    license: cli.license,
    type: 'module',
    bin: { octoplane: './main.js' },
    engines: { node: '>=24' },
    os: ['linux'],
    dependencies,
  };
}

function manifestOf(service: string): Promise<Manifest> {
  return readJson(`services/${service}/package.json`);
}

async function readJson<T>(path: string): Promise<T> {
  return JSON.parse(await readFile(join(root, path), 'utf8'));
}

async function writeJson(name: string, content: object): Promise<void> {
  await writeFile(join(out, name), `${JSON.stringify(content, null, 2)}\n`);
}

interface Manifest {
  readonly version: string;
  readonly description: string;
  readonly license: string;
  readonly dependencies: Readonly<Record<string, string>>;
}
