import {
  type ChangeRecord,
  GetStatusResponse,
  type SourceStatus,
  SourceStatus_State,
} from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { Command } from 'commander';
import { ask } from '../client.ts';
import { age, duration, orDash, sequence, since } from '../format.ts';
import { table, tone } from '../table.ts';
import { present, type ViewFlags, withViewFlags } from '../view.ts';

export const statusCommand = (): Command =>
  withViewFlags(new Command('status').description('the fleet at a glance: sources, rule set, nodes, refused objects'))
    .addHelpText('after', '\nExamples:\n  octoplane status\n  octoplane status --watch\n  octoplane status -o json')
    .action((flags: ViewFlags) =>
      present(flags, {
        ask: (client) => ask<GetStatusResponse>((...call) => client.getStatus({}, ...call)),
        toJson: GetStatusResponse.toJSON,
        asTable: describe,
      }),
    );

function describe(status: GetStatusResponse): string {
  const lines = [
    `version ${sequence(status.head)}, controller ${status.release} started ${since(status.startedAtMs)}`,
    `${status.services} Services, ${status.servicePorts} service ports, ${status.endpoints} endpoints`,
    nodesLine(status),
    ...(status.lastChange ? [changeLine(status.lastChange)] : []),
    '',
    table(['SOURCE', 'LOCATION', 'STATE', 'SINCE', 'OBJECTS', 'REASON'], status.sources.map(sourceRow)),
  ];
  if (status.troubled.length > 0)
    lines.push(
      table(
        ['NODE', 'LAST ACKED', 'WHY IT IS NOT CURRENT'],
        status.troubled.map(({ name, programmed, why }) => [name, sequence(programmed), why]),
      ),
    );
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
  const drivers = status.drivers.map(({ driver, nodes }) =>
    status.drivers.length > 1 ? `${nodes} ${driver}` : driver,
  );
  const missing = status.nodesMissing > 0 ? `; ${status.nodesMissing} Node objects without a daemon` : '';
  const settling =
    status.settlingMs > 0 ? tone('warn', `; just started, waiting up to ${age(status.settlingMs)} for nodes`) : '';
  return `nodes: ${parts.join(', ')}${drivers.length > 0 ? ` (${drivers.join(', ')})` : ''}${missing}${settling}`;
}

function changeLine({ version, committedAtUs, convergence }: ChangeRecord): string {
  const { nodes = 0, programmed = 0, p100Us = 0, slowest = '' } = convergence ?? {};
  const arrived =
    nodes > 0 && programmed >= nodes
      ? tone('good', `on all ${nodes} nodes that it concerns after ${duration(p100Us)}, last on ${slowest}`)
      : tone(nodes === 0 ? 'good' : 'warn', `on ${programmed} of ${nodes} nodes that it concerns`);
  return `last change: version ${sequence(version)}, ${since(committedAtUs / 1_000)}, ${arrived}`;
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
