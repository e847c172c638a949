import { type Nack, Nack_Reason, type RefusedEntry } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { NodeName, ServicePortKey } from '@octoplane/model/keys.ts';
import { viewEntry } from '../compute/view-entry.ts';
import { touches } from '../history/conflate.ts';
import { type HeldBack, heldEntry } from './held-back.ts';
import type { NextFrame } from './next-frame.ts';
import type { Base, SessionContext } from './session-context.ts';

/** The entries that a node named, of those that the frame carried, and how each is to be held back. */
export function refusedEntries(
  { views, history }: Pick<SessionContext, 'views' | 'history'>,
  node: NodeName,
  nack: Nack,
  frame: NextFrame,
): Map<ServicePortKey, HeldBack & { readonly named: RefusedEntry }> {
  const id = views.classOf(node);
  const since = history.between(frame.to, history.head);
  const refused = new Map<ServicePortKey, HeldBack & { readonly named: RefusedEntry }>();
  for (const named of nack.entries) {
    const key = named.key as ServicePortKey;
    if (frame.heldBack.has(key)) continue;
    const change = frame.changes?.get(key);
    if (change) refused.set(key, { named, entry: change.before, refused: change.after });
    // What a repair carried for a key is what the view has, unless that changed since: then it is not what was refused.
    else if (frame.changes || !since || since.some(({ batch }) => touches(batch, node, id, key))) continue;
    else refused.set(key, { named, entry: heldEntry(named), refused: viewEntry(views, node, key) });
  }
  return refused;
}

/** What is known of the node's rule set after it refused a frame as a whole. */
export const baseAfter = ({ reason }: Nack, base: Base): Base =>
  reason === Nack_Reason.WRONG_BASE || reason === Nack_Reason.DIGEST_MISMATCH ? { t: 'unknown' } : base;
