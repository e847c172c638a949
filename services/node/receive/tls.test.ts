import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ServerCredentials } from '@grpc/grpc-js';
import { Plan_Kind } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import { nodeName } from '@octoplane/model/keys.ts';
import { emptyRuleSet } from '@octoplane/model/rule-set.ts';
import { type Logger, pino } from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TestAuthority } from '../../../test/support/stub-nodes/pki.ts';
import { FakeKernel, fakeModule } from '../drivers/fake.ts';
import { runNode } from '../main.ts';
import { defaultNodeOptions } from '../options.ts';
import { Controller } from '../testing/controller.ts';
import { repairFrame } from '../testing/frames.ts';

let dir = '';
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'octoplane-tls-'));
});
afterAll(() => rmSync(dir, { recursive: true }));

/** Lines of the log, awaited by what they say. */
class Log {
  readonly logger: Logger;
  #wanted: { readonly pattern: RegExp; readonly heard: () => void } | null = null;

  constructor() {
    this.logger = pino({ level: 'warn' }, { write: (line: string) => this.#meet(line) });
  }

  says(pattern: RegExp): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wanted = { pattern, heard: resolve };
    return promise;
  }

  #meet(line: string): void {
    if (this.#wanted?.pattern.test(line)) this.#wanted.heard();
  }
}

it('a node proves its name, knows a stranger, and uses renewed certificates without a restart', async () => {
  const ours = await TestAuthority.create('ours');
  const others = await TestAuthority.create('others');
  const server = await ours.server();
  const chain = [{ private_key: Buffer.from(server.key), cert_chain: Buffer.from(server.cert) }];
  const brain = await new Controller().listen(ServerCredentials.createSsl(Buffer.from(ours.cert), chain, true));
  const transport = {
    t: 'mtls',
    certFile: join(dir, 'tls.crt'),
    keyFile: join(dir, 'tls.key'),
    caFile: join(dir, 'ca.crt'),
  } as const;
  writeFileSync(transport.caFile, ours.cert);
  const install = ({ cert, key }: { readonly cert: string; readonly key: string }) => {
    writeFileSync(transport.certFile, cert);
    writeFileSync(transport.keyFile, key);
  };

  install(await others.node('node-1'));
  const log = new Log();
  const refused = log.says(/the connection to the controller is lost|cannot be reached/);
  const stop = new AbortController();
  const running = runNode(
    {
      ...defaultNodeOptions,
      controllers: [brain.address],
      nodeName: nodeName('node-1'),
      driver: 'fake',
      stateDir: join(dir, 'state'),
      transport,
      healthzBindAddress: null,
      metricsBindAddress: null,
    },
    {
      logger: log.logger,
      signal: stop.signal,
      registry: new Map([['fake', async () => fakeModule(new FakeKernel())]]),
    },
  );
  await refused;
  install(await ours.node('node-1'));
  const peer = await brain.next();
  await peer.hears('hello');
  peer.plan(Plan_Kind.SNAPSHOT);
  peer.says({ $case: 'frame', value: repairFrame(emptyRuleSet, { to: { epoch: 1, sequence: 1 } }) });
  expect(await peer.hears('ack')).toMatchObject({ programmed: 1 });
  stop.abort();
  await running;
  brain.stop();
});
