import { systemClock } from '@octoplane/controller/clock.ts';
import { EtcdError } from '@octoplane/controller/sources/etcd/etcd-error.ts';
import { keepRegistered, type Workload } from '@octoplane/controller/sources/etcd/registration.ts';
import { canonicalIp } from '@octoplane/model/address.ts';
import { type Protocol, protocols, type ServiceName } from '@octoplane/model/keys.ts';
import { Command, InvalidArgumentError } from 'commander';
import { cliErrorOf, type EtcdFlags, idOfArgument, membersOf, withEtcdFlags } from '../etcd.ts';
import { durationMs, flag, list } from '../flags.ts';
import { terminationSignal } from '../signals.ts';

interface RegisterFlags extends EtcdFlags {
  readonly address: readonly string[];
  readonly port: Workload['ports'];
  readonly onNode?: string;
  readonly inZone?: string;
  readonly ttl: number;
}

export const registerCommand = (): Command =>
  withEtcdFlags(new Command('register'))
    .description('keeps an endpoint of a Service in etcd for as long as this command runs')
    .argument('<namespace/name>', 'the Service')
    .addOption(
      flag('--address <ip>', 'where the workload is reached; repeatable, one per family')
        .argParser(addresses)
        .makeOptionMandatory(),
    )
    .addOption(
      flag('--port <[name=]port[/protocol]>', 'where it listens; repeatable. The name is that of the Service’s port')
        .argParser(ports)
        .makeOptionMandatory(),
    )
    .addOption(flag('--on-node <name>', 'the node it runs on, for Local policies'))
    .addOption(flag('--in-zone <zone>', 'the zone it runs in'))
    .addOption(
      flag(
        '--ttl <duration>',
        'the endpoint goes so long after this command vanished: long enough for an etcd that elects a leader',
      )
        .default(10_000, '10s')
        .argParser(ttl),
    )
    .addHelpText(
      'after',
      '\nThe endpoint hangs on a lease of etcd. SIGTERM takes it back at once.\n\nExamples:\n' +
        '  octoplane register default/web --address 10.244.1.7 --port 8080\n' +
        '  octoplane register default/dns --address 10.244.1.7 --address fd00:244:1::7 --port dns=53/UDP --ttl 5s',
    )
    .action(async (name: string, flags: RegisterFlags) => {
      const service = idOfArgument('Service', name).name as ServiceName;
      const { address, port, onNode = null, inZone = null, ttl: ttlMs } = flags;
      const workload = { service, addresses: address, ports: port, node: onNode, zone: inZone };
      const say = (text: string): boolean => process.stdout.write(`${text}\n`);
      // The clock's timers keep no process alive, and between two renewals there is nothing else.
      const awake = setInterval(() => undefined, 60_000);
      try {
        await keepRegistered(
          workload,
          {
            members: membersOf(flags),
            ttlSeconds: ttlMs / 1000,
            clock: systemClock,
            onState: (state) =>
              say(
                state.t === 'registered'
                  ? `${address.join(', ')} is registered for Service ${service}`
                  : `${address.join(', ')} is not registered any more (${state.reason}); trying again`,
              ),
          },
          terminationSignal(),
        );
      } catch (error) {
        throw error instanceof EtcdError ? cliErrorOf(error) : error;
      } finally {
        clearInterval(awake);
      }
    });

function addresses(value: string, previous: readonly string[] | undefined): readonly string[] {
  return list(value, previous).map((text) => {
    const ip = canonicalIp(text);
    if (ip === null) throw new InvalidArgumentError(`"${text}" is not an IP address.`);
    return ip;
  });
}

function ports(value: string, previous: Workload['ports'] | undefined): Workload['ports'] {
  const [, name = '', number = '', word = 'TCP'] = /^(?:([a-z0-9-]+)=)?(\d{1,5})(?:\/([A-Za-z]+))?$/.exec(value) ?? [];
  const port = Number(number);
  const protocol = protocols.find((known) => known === word.toUpperCase());
  if (port < 1 || port > 65_535 || protocol === undefined)
    throw new InvalidArgumentError(`Write [NAME=]PORT[/PROTOCOL], for example 8080 or dns=53/UDP.`);
  return [...(previous ?? []), { name, port, protocol: protocol satisfies Protocol }];
}

function ttl(value: string): number {
  const ms = durationMs(value);
  if (ms < 1_000 || ms % 1_000 !== 0) throw new InvalidArgumentError('Write whole seconds, 1s or more.');
  return ms;
}
