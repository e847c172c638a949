import { nodeName } from '@octoplane/model/keys.ts';
import type { DriverName } from '@octoplane/node/drivers/driver.ts';
import { runNode } from '@octoplane/node/main.ts';
import { defaultNodeOptions } from '@octoplane/node/options.ts';
import { pino } from 'pino';

/** The daemon as the benchmark starts it: CONTROLLER DRIVER STATE_DIR. */
const [controller = '', driver = 'fake', stateDir = ''] = process.argv.slice(2);
const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
await runNode(
  {
    ...defaultNodeOptions,
    controllers: [controller],
    nodeName: nodeName('node-1'),
    driver: driver as DriverName,
    stateDir,
    transport: { t: 'insecure' },
    healthzBindAddress: null,
    metricsBindAddress: null,
  },
  { logger: pino({ level: 'warn' }, pino.destination(2)), signal: stop.signal },
);
