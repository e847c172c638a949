import { formatProblem } from '@octoplane/model/findings.ts';
import { formatId, idOf, project } from '@octoplane/model/project.ts';
import type { ReadObject } from '../object-table.ts';
import { idOfKey } from './layout.ts';

/** 1 MB. etcd itself takes 1.5 MB; an EndpointSlice of a thousand endpoints has less than a third of one. */
export const maxValueBytes = 1_000_000;

/** What a key and its value say. Pure. `revision`: of the last change. */
export function readValue(key: string, value: Uint8Array, revision: number): ReadObject {
  const id = idOfKey(key);
  const refused = (reason: string): ReadObject => ({ t: 'refused', id, reason });
  if (id === null)
    return refused(
      'the key is outside the layout; use services/NS/NAME, endpointslices/NS/NAME, serviceexports/NS/NAME or nodes/NAME',
    );
  if (value.length >= maxValueBytes)
    return refused(`the value has ${value.length} bytes; write less than ${maxValueBytes}, in several objects`);
  let manifest: unknown;
  try {
    manifest = JSON.parse(Buffer.from(value.buffer, value.byteOffset, value.length).toString('utf8'));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return refused(`the value is not JSON (${error.message}); write the object as JSON, or use octoplane apply`);
  }
  const projection = project(manifest, { revision: String(revision), changedAtUs: null });
  switch (projection.t) {
    case 'foreign':
      return refused(`the value is a ${projection.what}; the key is for a ${id.kind}`);
    case 'refused':
      return refused(projection.problems.map(formatProblem).join('; '));
    case 'object': {
      const actual = idOf(projection.object);
      if (formatId(actual) !== formatId(id))
        return refused(`the value is ${formatId(actual)}; write it under the key of its own name`);
      return { t: 'object', object: projection.object, remarks: projection.warnings.map(formatProblem) };
    }
  }
}
