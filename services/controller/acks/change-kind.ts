import { diffEndpoints, type EntryChange } from '@octoplane/model/delta.ts';
import { type Entry, endpointFlags } from '@octoplane/model/rule-set.ts';
import type { Batch } from '../compute/batch.ts';

/**
 * What a version does to connections: 'added' gives them somewhere to go, 'removed' takes it away, 'changed' is both in one batch, or
 * neither (policies, addresses, flags).
 */
export type ChangeKind = 'added' | 'removed' | 'changed';

/** As told by the classes; by single nodes' views where no class changes. Stops as soon as it is both. */
export function kindOf({ classes, overlays }: Batch): ChangeKind {
  const views = classes.size > 0 ? classes : overlays;
  let adds = false;
  let removes = false;
  for (const changes of views.values())
    for (const change of changes) {
      const effect = effectOf(change);
      adds ||= effect.adds;
      removes ||= effect.removes;
      if (adds && removes) return 'changed';
    }
  return adds ? 'added' : removes ? 'removed' : 'changed';
}

function effectOf({ before, after }: Pick<EntryChange, 'before' | 'after'>) {
  if (before === null || after === null) return { adds: after !== null, removes: before !== null };
  const [had, has] = [taking(before), taking(after)];
  return { adds: diffEndpoints(has, had).removed.length > 0, removes: diffEndpoints(had, has).removed.length > 0 };
}

/** Endpoints for new connections. */
const taking = ({ endpoints }: Entry) => endpoints.filter(({ flags }) => (flags & endpointFlags.draining) === 0);
