import { formatId, idOf, metaOf } from '@octoplane/model/project.ts';
import type { Cause } from '../compute/batch.ts';
import type { SourceEvent } from '../sources/source.ts';
import type { SourceTable, Touched } from './source-table.ts';

/** Enters one event of a source into its table, and notes what it touches and causes. */
export function takeEvent(source: SourceTable, event: SourceEvent, touched: Touched, causes: Cause[]): void {
  switch (event.t) {
    case 'upserted': {
      const { revision, changedAtUs, traceparent, hasBadTraceparent } = metaOf(event.object);
      source.put(event.object, touched);
      if (hasBadTraceparent) source.badTraceparents++;
      causes.push({
        source: source.name,
        object: formatId(idOf(event.object)),
        isRemoval: false,
        revision,
        changedAtUs: changedAtUs ?? event.observedAtUs,
        observedAtUs: event.observedAtUs,
        traceparent,
      });
      return;
    }
    case 'removed':
      source.remove(event.id, touched);
      causes.push({
        source: source.name,
        object: formatId(event.id),
        isRemoval: true,
        revision: event.revision,
        changedAtUs: event.changedAtUs ?? event.observedAtUs,
        observedAtUs: event.observedAtUs,
        traceparent: null,
      });
      return;
    default:
      source.note(event);
  }
}
