import { Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { parseEndpointTarget } from '@octoplane/controller/acks/endpoint-target.ts';
import {
  type AdminServiceClient,
  type EndpointCondition,
  EndpointCondition_State,
  WaitRequest,
  WaitResponse,
} from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { Command, InvalidArgumentError, Option } from 'commander';
import { withClient } from '../client.ts';
import { CliError, usageError } from '../errors.ts';
import { type ClientFlags, durationMs, flag, list, positiveInteger, withClientFlags } from '../flags.ts';
import { show } from '../output.ts';
import { describeDone, describeLate, describeProgress } from '../wait-text.ts';

type Quorum = Pick<WaitRequest, 'quorumNodes' | 'quorumPercent'>;

interface WaitFlags extends ClientFlags {
  readonly version?: number;
  readonly nodes?: readonly string[];
  readonly quorum?: Quorum;
  readonly ignoreGone?: number;
  readonly everyNode?: boolean;
  readonly endpoint?: string;
  readonly gone?: string;
  readonly verbose?: boolean;
  readonly timeout: number;
}

export const waitCommand = (): Command =>
  withClientFlags(
    new Command('wait')
      .description('returns once a change is in the kernel of every node; otherwise names the nodes that are late')
      .argument('[namespace/name]', 'the newest change of this Service; without it, the newest change of all')
      .addOption(new Option('--version <n>', 'a version, as history shows it').argParser(positiveInteger))
      .addOption(
        flag('--endpoint <ip:port>', 'until every node that is to send connections there has it').argParser(endpoint),
      )
      .addOption(flag('--gone <ip:port>', 'until no node sends new connections there any more').argParser(endpoint))
      .addOption(flag('--nodes <selector>', 'only these: names, zone=ZONE, driver=NAME; repeatable').argParser(list))
      .addOption(
        flag('--quorum <share>', 'be content with so many nodes, or so many percent of them: 99%, 3').argParser(quorum),
      )
      .addOption(
        flag(
          '--ignore-gone <duration>',
          'do not count nodes that have been disconnected for so long; what they have in their kernels is not known',
        ).argParser(durationMs),
      )
      .addOption(flag('--every-node', 'count Node objects of which no daemon has ever connected, too'))
      .addOption(flag('--timeout <duration>', 'when to give up').default(60_000, '60s').argParser(durationMs))
      .addOption(flag('-v, --verbose', 'a line on stderr whenever a node gets there, also when that is no terminal')),
  )
    .addHelpText(
      'after',
      '\nExit code 0 when programmed everywhere, 1 on timeout, 2 on usage.\n\n' +
        'Nodes count from the first time they connect until they have been gone for an hour; after a start of the\n' +
        'controller nothing is done before they had time to come back (controller --settle, --state-dir).\n\n' +
        'Examples:\n' +
        '  octoplane wait default/web --endpoint 10.244.1.2:8080   # before a rollout goes on\n' +
        '  octoplane wait --gone 10.244.1.2:8080                   # before the program behind it ends\n' +
        '  octoplane wait default/web\n  octoplane wait --nodes zone=a --timeout 5s\n' +
        '  octoplane wait --version 12 --quorum 99% -v\n  octoplane wait default/web --ignore-gone 10m',
    )
    .action(async (service: string | undefined, flags: WaitFlags) => {
      if (service !== undefined && flags.version !== undefined)
        throw usageError('give a Service or --version, not both');
      if ([flags.version, flags.endpoint, flags.gone].filter((one) => one !== undefined).length > 1)
        throw usageError('give one of --version, --endpoint and --gone');
      const last = await withClient(flags, (client) => follow(client, service, flags));
      const goal = flags.gone ?? flags.endpoint ?? null;
      const text = { subject: goal, done: flags.gone === undefined ? 'programmed' : 'gone' };
      if (!last.done) throw new CliError(describeLate(last, text, flags.timeout));
      show(WaitResponse.toJSON(last) as object, flags.output, () => describeDone(last, text));
    });

function conditionOf({ endpoint, gone }: WaitFlags): { endpoint?: EndpointCondition } {
  if (gone !== undefined) return { endpoint: { address: gone, state: EndpointCondition_State.GONE } };
  if (endpoint !== undefined) return { endpoint: { address: endpoint, state: EndpointCondition_State.PROGRAMMED } };
  return {};
}

/** The last report: done, or what was known when the time was up. */
async function follow(
  client: AdminServiceClient,
  service: string | undefined,
  flags: WaitFlags,
): Promise<WaitResponse> {
  const request = WaitRequest.create({
    service: service ?? '',
    sequence: flags.version ?? 0,
    selectors: flags.nodes ?? [],
    ignoreGoneMs: flags.ignoreGone ?? 0,
    everyNode: flags.everyNode ?? false,
    ...conditionOf(flags),
    ...flags.quorum,
  });
  const reports = client.wait(request, new Metadata(), { deadline: new Date(Date.now() + flags.timeout) });
  let last: WaitResponse | undefined;
  try {
    for await (const report of reports as AsyncIterable<WaitResponse>) {
      showProgress(report, last, flags.verbose ?? false);
      last = report;
    }
  } catch (error) {
    if (last === undefined || (error as ServiceError).code !== status.DEADLINE_EXCEEDED) throw error;
  } finally {
    if (process.stderr.isTTY && last !== undefined && !flags.verbose) process.stderr.write('\r\u001b[K');
  }
  if (last === undefined) throw new CliError('the controller ended the wait without a report');
  return last;
}

/** One line that is written over on a terminal; a line for each step where asked for; otherwise nothing. */
function showProgress(report: WaitResponse, before: WaitResponse | undefined, isVerbose: boolean): void {
  const isStep = report.programmed !== before?.programmed || report.nodes !== before.nodes;
  if (isVerbose && isStep) process.stderr.write(`${describeProgress(report)}\n`);
  else if (isVerbose) return;
  else if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${describeProgress(report)}`);
}

function endpoint(value: string): string {
  if (parseEndpointTarget(value) === null)
    throw new InvalidArgumentError('Write 10.244.1.2:8080, [fd00::1]:8080, or an address for all its ports.');
  return value;
}

function quorum(value: string): Quorum {
  const [, percent] = /^(\d{1,3}(?:\.\d{1,4})?)%$/.exec(value) ?? [];
  if (percent !== undefined && Number(percent) > 0 && Number(percent) <= 100)
    return { quorumNodes: 0, quorumPercent: Number(percent) };
  if (/^[1-9]\d{0,6}$/.test(value)) return { quorumNodes: Number(value), quorumPercent: 0 };
  throw new InvalidArgumentError('Write a share such as 99%, or a number of nodes.');
}
