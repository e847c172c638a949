import { NodeStatus_State } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { tone } from './table.ts';

/** A node's state, coloured. */
export function stateText(state: NodeStatus_State): string {
  if (state === NodeStatus_State.CURRENT) return tone('good', 'current');
  if (state === NodeStatus_State.LATE) return tone('warn', 'late');
  if (state === NodeStatus_State.REFUSING) return tone('bad', 'refusing');
  return tone('bad', 'disconnected');
}
