/**
 * `npm run build`: what ships. One bundle of the command line with all that is JavaScript in it, beside the one
 * dependency that is not (koffi, a native module) and the BPF programs, as an npm package in dist/.
 */
import { chmod, copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buildPrograms, objectDir } from '@octoplane/node/bpf/build.ts';
import { build } from 'esbuild';

const root = join(import.meta.dirname, '..');
const out = join(root, 'dist');
const native = ['koffi'];

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
  external: native,
  sourcemap: 'linked',
  legalComments: 'linked',
  metafile: true,
  // CommonJS dependencies call require() for node's own modules.
  banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
});
await chmod(join(out, 'main.js'), 0o755);
buildPrograms();
await mkdir(join(out, 'bpf'));
for (const name of (await readdir(objectDir)).filter((file) => file.endsWith('.bpf.o')))
  await copyFile(join(objectDir, name), join(out, 'bpf', name));
await copyFile(join(root, 'LICENSE'), join(out, 'LICENSE'));
await writeFile(join(out, 'package.json'), `${JSON.stringify(await shippedManifest(), null, 2)}\n`);

const bytes = Object.entries(metafile.outputs)
  .filter(([file]) => file.endsWith('.js'))
  .reduce((sum, [, output]) => sum + output.bytes, 0);
console.log(`dist/: ${Math.round(bytes / 1024)} KB of JavaScript, ${native.join(', ')} beside it`);

async function shippedManifest(): Promise<object> {
  const cli = JSON.parse(await readFile(join(root, 'services/cli/package.json'), 'utf8'));
  const node = JSON.parse(await readFile(join(root, 'services/node/package.json'), 'utf8'));
  return {
    name: 'octoplane',
    version: cli.version,
    description: cli.description,
    license: cli.license,
    type: 'module',
    bin: { octoplane: './main.js' },
    engines: { node: '>=24' },
    os: ['linux'],
    dependencies: Object.fromEntries(native.map((name) => [name, node.dependencies[name]])),
  };
}
