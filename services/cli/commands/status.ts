import { GetStatusResponse, type SourceStatus, SourceStatus_State } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { Command } from 'commander';
import { ask, withClient } from '../client.ts';
import { type ClientFlags, withClientFlags } from '../flags.ts';
import { orDash, sequence, since } from '../format.ts';
import { show } from '../output.ts';
import { table, tone } from '../table.ts';

export const statusCommand = (): Command =>
  withClientFlags(
    new Command('status').description('the fleet at a glance: sources, rule set, nodes, refused objects'),
  ).action(async (flags: ClientFlags) => {
    const status = await withClient(flags, (client) =>
      ask<GetStatusResponse>((...call) => client.getStatus({}, ...call)),
    );
    show(GetStatusResponse.toJSON(status) as object, flags.output, () => describe(status));
  });

function describe(status: GetStatusResponse): string {
  const lines = [
    `version ${sequence(status.head)}, controller ${status.release} up since ${since(status.startedAtMs)}`,
    `${status.services} Services, ${status.servicePorts} service ports, ${status.endpoints} endpoints`,
    nodesLine(status),
    '',
    table(['SOURCE', 'LOCATION', 'STATE', 'SINCE', 'OBJECTS', 'REASON'], status.sources.map(sourceRow)),
  ];
  if (status.rejected.length > 0)
    lines.push(
      table(
        ['REFUSED', 'WHERE', 'WHY'],
        status.rejected.map(({ object, location, reason }) => [object, location, reason]),
      ),
    );
  return lines.join('\n');
}

function nodesLine(status: GetStatusResponse): string {
  const parts: string[] = [tone('good', `${status.nodesCurrent} current`)];
  if (status.nodesLate > 0) parts.push(tone('warn', `${status.nodesLate} late`));
  if (status.nodesRefusing > 0) parts.push(tone('bad', `${status.nodesRefusing} refusing`));
  if (status.nodesDisconnected > 0) parts.push(tone('bad', `${status.nodesDisconnected} disconnected`));
  return `nodes: ${parts.join(', ')}`;
}

const sourceRow = (source: SourceStatus): string[] => [
  source.name,
  source.location,
  sourceState(source.state),
  since(source.sinceMs),
  String(source.objects),
  orDash(source.reason),
];

function sourceState(state: SourceStatus_State): string {
  if (state === SourceStatus_State.SYNCED) return tone('good', 'synced');
  if (state === SourceStatus_State.STALE) return tone('bad', 'stale');
  return tone('warn', 'syncing');
}
