import { type ChangeRecord, ListHistoryResponse } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { Command } from 'commander';
import { ask } from '../client.ts';
import { flag, positiveInteger } from '../flags.ts';
import { causeText, clockTime, duration, orDash, sequence } from '../format.ts';
import { table } from '../table.ts';
import { present, type ViewFlags, withViewFlags } from '../view.ts';

interface HistoryFlags extends ViewFlags {
  readonly limit: number;
}

export const historyCommand = (): Command =>
  withViewFlags(
    new Command('history')
      .description('the last changes: what made them, and how long until nodes had them in their kernels')
      .argument('[namespace/name]', 'only changes of this Service')
      .addOption(flag('--limit <n>', 'how many').default(20).argParser(positiveInteger)),
  )
    .addHelpText(
      'after',
      '\nTimes run from the commit in the controller to the acknowledgement of so many percent of the nodes that the change concerns.\n\n' +
        'Examples:\n  octoplane history default/web --limit 5\n  octoplane history -o wide     # every cause and key\n  octoplane history --watch',
    )
    .action((service: string | undefined, flags: HistoryFlags) =>
      present(flags, {
        ask: (client) =>
          ask<ListHistoryResponse>((...call) =>
            client.listHistory({ limit: flags.limit, service: service ?? '' }, ...call),
          ),
        toJson: ListHistoryResponse.toJSON,
        asTable: ({ changes }, wide) => historyTable(changes, wide),
      }),
    );

const columns = ['VERSION', 'COMMITTED', 'CAUSE', 'KEYS', 'NODES', 'P50', 'P99', 'P100', 'SLOWEST', 'TRACE'];

function historyTable(changes: readonly ChangeRecord[], wide: boolean): string {
  if (changes.length === 0) return 'Nothing has changed within the history that is kept.\n';
  return table(
    columns,
    changes.flatMap((change) => [row(change), ...(wide ? moreRows(change) : [])]),
  );
}

/** The causes and keys that do not fit the first line. */
function moreRows({ causes, keys, moreCauses, moreKeys }: ChangeRecord): string[][] {
  const listed = (texts: readonly string[], unlisted: number): readonly string[] =>
    unlisted > 0 ? [...texts, `and ${unlisted} more`] : texts;
  const allCauses = listed(causes.map(causeText), moreCauses).slice(1);
  const allKeys = listed(keys, moreKeys).slice(1);
  return Array.from({ length: Math.max(allCauses.length, allKeys.length) }, (_, i) => [
    '',
    '',
    allCauses[i] ?? '',
    allKeys[i] ?? '',
  ]);
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
