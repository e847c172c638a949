import type { CollectedSpan } from './decode.ts';

export type TreeSpan = Pick<CollectedSpan, 'traceId' | 'id' | 'parent' | 'name' | 'fromUs' | 'toUs'>;

/** What is wrong with the spans of one trace as a tree: words for each fault, none when all is well. */
export function faultsOf(spans: readonly TreeSpan[]): string[] {
  const byId = new Map(spans.map((span) => [span.id, span]));
  const faults: string[] = [];
  if (byId.size !== spans.length) faults.push('ids are not unique');
  if (new Set(spans.map(({ traceId }) => traceId)).size !== 1) faults.push('not one trace');
  const roots = spans.filter(({ parent }) => parent === '');
  if (roots.length !== 1) faults.push(`${roots.length} roots`);
  for (const span of spans) {
    if (span.toUs < span.fromUs) faults.push(`${span.name} is negative`);
    if (span.parent === '') continue;
    const parent = byId.get(span.parent);
    if (!parent) faults.push(`${span.name} has a parent that is not there`);
    else if (span.fromUs < parent.fromUs || span.toUs > parent.toUs)
      faults.push(`${span.name} is not within ${parent.name}`);
  }
  return faults;
}
