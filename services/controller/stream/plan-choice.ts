import { digestFromBytes, wrap } from '@octoplane/model/digest.ts';
import { type Hello, Plan_Kind } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { NodeName } from '@octoplane/model/keys.ts';
import type { Base, SessionContext } from './session-context.ts';

export interface PlanChoice {
  readonly kind: Plan_Kind;
  readonly base: Base;
}

/**
 * The cheapest way from what a node holds to the head (stream.proto, "Resume"). The digest decides: a delta is promised only where it leads
 * from the digest that the node has to the one of its view, whatever the node's version was computed for.
 */
export function choosePlan(
  { views, history, deltas }: Pick<SessionContext, 'views' | 'history' | 'deltas'>,
  node: NodeName,
  hello: Hello,
): PlanChoice {
  const held = digestFromBytes(hello.digest);
  const wanted = views.viewDigest(node);
  if (held === null) return { kind: Plan_Kind.SNAPSHOT, base: { t: 'nothing' } };
  if (held === wanted) return { kind: Plan_Kind.UP_TO_DATE, base: { t: 'version', sequence: history.head } };
  const { epoch, sequence } = hello.held ?? { epoch: 0, sequence: 0 };
  const delta = epoch === history.epoch ? deltas.forNode(node, views.classOf(node), sequence) : null;
  if (delta && wrap(held + delta.difference) === wanted)
    return { kind: Plan_Kind.DELTA, base: { t: 'version', sequence } };
  return { kind: Plan_Kind.BUCKET_REPAIR, base: { t: 'unknown' } };
}
