import { type ChangeRecord, ListHistoryResponse } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { Command } from 'commander';
import { ask, withClient } from '../client.ts';
import { type ClientFlags, flag, positiveInteger, withClientFlags } from '../flags.ts';
import { causeText, clockTime, duration, orDash, sequence } from '../format.ts';
import { show } from '../output.ts';
import { table } from '../table.ts';

interface HistoryFlags extends ClientFlags {
  readonly limit: number;
}

export const historyCommand = (): Command =>
  withClientFlags(
    new Command('history')
      .description('the last changes: what made them, and how long until nodes had them in their kernels')
      .argument('[namespace/name]', 'only changes of this Service')
      .addOption(flag('--limit <n>', 'how many').default(20).argParser(positiveInteger)),
  )
    .addHelpText('after', '\nExample:\n  octoplane history default/web --limit 5')
    .action(async (service: string | undefined, flags: HistoryFlags) => {
      const answer = await withClient(flags, (client) =>
        ask<ListHistoryResponse>((...call) =>
          client.listHistory({ limit: flags.limit, service: service ?? '' }, ...call),
        ),
      );
      show(ListHistoryResponse.toJSON(answer) as object, flags.output, () => historyTable(answer.changes));
    });

const columns = ['VERSION', 'COMMITTED', 'CAUSE', 'KEYS', 'NODES', 'P50', 'P99', 'P100', 'SLOWEST', 'TRACE'];

function historyTable(changes: readonly ChangeRecord[]): string {
  if (changes.length === 0) return 'Nothing has changed within the history that is kept.\n';
  return table(columns, changes.map(row));
}

function row(change: ChangeRecord): string[] {
  const { convergence } = change;
  return [
    sequence(change.version),
    clockTime(change.committedAtUs),
    firstAndMore(change.causes.map(causeText), change.moreCauses),
    firstAndMore(change.keys, change.moreKeys),
    `${convergence?.programmed ?? 0}/${convergence?.nodes ?? 0}`,
    duration(convergence?.p50Us ?? 0),
    duration(convergence?.p99Us ?? 0),
    duration(convergence?.p100Us ?? 0),
    orDash(convergence?.slowest ?? ''),
    orDash(change.traceId),
  ];
}

function firstAndMore(texts: readonly string[], unlisted: number): string {
  const more = texts.length - 1 + unlisted;
  return more > 0 ? `${texts[0] ?? ''} +${more}` : orDash(texts[0] ?? '');
}
