/** What a wait says to people. */
import type { LateNode, WaitResponse } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { age, sequence } from './format.ts';
import { table, tone } from './table.ts';

/** In the line of progress: more would not be read before the next one comes. */
const namedInProgress = 2;

export function describeProgress(report: WaitResponse): string {
  const names = report.late.slice(0, namedInProgress).map(({ name, why }) => `${name} (${why})`);
  const more = report.nodes - report.programmed - names.length;
  const late = names.length > 0 ? `, late: ${names.join(', ')}${more > 0 ? ` and ${more} more` : ''}` : '';
  return `${versionOf(report)} on ${countOf(report)}${late}${settling(report)}`;
}

/** What was waited for. */
export interface WaitText {
  /** An endpoint; null: the version that the report names. */
  readonly subject: string | null;
  /** "programmed", "gone". */
  readonly done: string;
}

export const describeDone = (report: WaitResponse, { subject, done }: WaitText): string =>
  `${tone('good', done)}: ${subject ?? versionOf(report)} on ${countOf(report)}${laggards(report)}\n`;

export function describeLate(report: WaitResponse, { subject, done }: WaitText, timeoutMs: number): string {
  const what = `${subject ?? versionOf(report)} is ${done} on ${countOf(report)}`;
  const lines = [`${what} after ${timeoutMs / 1_000} s${settling(report)}`];
  if (report.nobody !== '') lines.push(report.nobody);
  if (report.late.length > 0) lines.push(nodesTable('LATE NODE', report.late));
  if (report.ignored.length > 0) lines.push(nodesTable('NOT COUNTED', report.ignored));
  return lines.join('\n').trimEnd();
}

const versionOf = (report: WaitResponse): string => `version ${sequence(report.version)}`;

const countOf = ({ programmed, nodes, required }: WaitResponse): string =>
  required === nodes ? `${programmed} of ${nodes} nodes` : `${programmed} of ${nodes} nodes (${required} are enough)`;

const settling = ({ settlingMs }: WaitResponse): string =>
  settlingMs > 0 ? `; the controller has just started and waits up to ${age(settlingMs)} for nodes to come back` : '';

/** What a quorum left behind, and who was not asked. */
function laggards({ late, ignored }: WaitResponse): string {
  const parts: string[] = [];
  if (late.length > 0) parts.push(nodesTable('LATE NODE', late));
  if (ignored.length > 0) parts.push(nodesTable('NOT COUNTED', ignored));
  return parts.map((part) => `\n${part.trimEnd()}`).join('');
}

const nodesTable = (title: string, nodes: readonly LateNode[]): string =>
  table(
    [title, 'LAST ACKED', 'WHY'],
    nodes.map(({ name, programmed, why }) => [name, sequence(programmed), why]),
  );
