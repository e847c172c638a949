import { Metadata, type ServiceError, status } from '@grpc/grpc-js';
import {
  type AdminServiceClient,
  type LateNode,
  WaitRequest,
  WaitResponse,
} from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { Command, Option } from 'commander';
import { withClient } from '../client.ts';
import { CliError, usageError } from '../errors.ts';
import { type ClientFlags, durationMs, flag, list, positiveInteger, withClientFlags } from '../flags.ts';
import { sequence } from '../format.ts';
import { show } from '../output.ts';
import { table, tone } from '../table.ts';

interface WaitFlags extends ClientFlags {
  readonly version?: number;
  readonly nodes?: readonly string[];
  readonly timeout: number;
}

export const waitCommand = (): Command =>
  withClientFlags(
    new Command('wait')
      .description('returns once a change is in the kernel of every node; otherwise names the nodes that are late')
      .argument('[namespace/name]', 'the newest change of this Service; without it, the newest change of all')
      .addOption(new Option('--version <n>', 'a version, as history shows it').argParser(positiveInteger))
      .addOption(flag('--nodes <selector>', 'only these: names, zone=ZONE, driver=NAME; repeatable').argParser(list))
      .addOption(flag('--timeout <duration>', 'when to give up').default(60_000, '60s').argParser(durationMs)),
  )
    .addHelpText(
      'after',
      '\nExit code 0 when programmed everywhere, 1 on timeout.\n\nExamples:\n' +
        '  octoplane wait default/web\n  octoplane wait --nodes zone=a --timeout 5s',
    )
    .action(async (service: string | undefined, flags: WaitFlags) => {
      if (service !== undefined && flags.version !== undefined)
        throw usageError('give a Service or --version, not both');
      const last = await withClient(flags, (client) => follow(client, service, flags));
      if (!last.done) throw new CliError(describeLate(last, flags.timeout));
      show(WaitResponse.toJSON(last) as object, flags.output, () => describeDone(last));
    });

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
  });
  const reports = client.wait(request, new Metadata(), { deadline: new Date(Date.now() + flags.timeout) });
  let last: WaitResponse | undefined;
  try {
    for await (const report of reports as AsyncIterable<WaitResponse>) {
      last = report;
      showProgress(report);
    }
  } catch (error) {
    if (last === undefined || (error as ServiceError).code !== status.DEADLINE_EXCEEDED) throw error;
  }
  if (last === undefined) throw new CliError('the controller ended the wait without a report');
  return last;
}

function showProgress(report: WaitResponse): void {
  if (!process.stderr.isTTY) return;
  process.stderr.write(
    `\r\u001b[Kversion ${sequence(report.version)}: ${report.programmed}/${report.nodes} nodes${report.done ? '\n' : ' ...'}`,
  );
}

const describeDone = (report: WaitResponse): string =>
  `${tone('good', 'programmed')}: version ${sequence(report.version)} on ${report.programmed} of ${report.nodes} nodes\n`;

function describeLate(report: WaitResponse, timeoutMs: number): string {
  const row = ({ name, programmed, why }: LateNode) => [name, sequence(programmed), why];
  const late = table(['LATE NODE', 'PROGRAMMED', 'WHY'], report.late.map(row));
  return (
    `version ${sequence(report.version)} is on ${report.programmed} of ${report.nodes} nodes after ` +
    `${timeoutMs / 1_000} s\n${late}`.trimEnd()
  );
}
