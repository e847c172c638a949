import { Nack_Stage, Plan_Kind } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import { traceIdOf } from '@octoplane/model/trace-id.ts';

/** What streams say in logs, metrics and traces. */

export const kindName = (kind: Plan_Kind): string => kindNames[kind] ?? 'UNRECOGNIZED';
export const stageName = (stage: Nack_Stage): string => stageNames[stage] ?? 'UNRECOGNIZED';

/** A version, with the trace that node's lines have too. */
export const named = (epoch: number, sequence: number) => ({
  version: sequence,
  trace: traceIdOf({ epoch, sequence }),
});

const namesOf = (members: Readonly<Record<string, string | number>>): Readonly<Record<number, string>> =>
  Object.fromEntries(Object.entries(members).map(([name, number]) => [number, name]));

const kindNames = namesOf(Plan_Kind);
const stageNames = namesOf(Nack_Stage);
