// A backend of the Service `web`: answers with the name of its node, and is an endpoint in etcd for as long as it lives
// (octoplane register): gone with its lease 5 s after it was killed. When it is stopped it takes the endpoint back, and answers until
// the controller says that it is in no kernel any more (GET /gone), so that nobody who was sent here is refused.
//
// NODE: the node it is on. ADDRESS: a name of its own address on the network of clients. OCTOPLANE_ETCD: http://HOST:2379.
import { spawn } from 'node:child_process';
import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { setTimeout as after } from 'node:timers/promises';

const { NODE, ADDRESS } = process.env;
const port = 8080;
const stopped = new AbortController();
process.on('SIGTERM', () => stopped.abort());

const server = createServer((_, response) => response.end(`${NODE}\n`)).listen(port);
const { address } = await lookup(ADDRESS, 4);
const args = [
  'register',
  'default/web',
  '--address',
  address,
  '--port',
  `http=${port}`,
  '--on-node',
  NODE,
  '--ttl',
  '5s',
];

// It ends when etcd cannot be reached; then it is started again.
while (!stopped.signal.aborted) {
  const registration = spawn('octoplane', args, { stdio: 'inherit' });
  const stop = () => registration.kill();
  stopped.signal.addEventListener('abort', stop, { once: true });
  await once(registration, 'exit');
  stopped.signal.removeEventListener('abort', stop);
  await after(1_000, undefined, { signal: stopped.signal }).catch(() => undefined);
}
await gone();
server.close();
server.closeAllConnections();

/** Nodes that are cut off are not waited for; nor is a controller that is not there. */
async function gone() {
  const question = `http://controller.data:12091/gone?port=${port}&service=default/web&ignore-gone=3s&timeout=10s`;
  const answer = await fetch(question).then(
    (response) => response.text(),
    (error) => `${error.cause?.message ?? error.message}: ending without an answer`,
  );
  console.log(answer.trim());
}
