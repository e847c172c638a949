import type { NodeName, ServicePortKey } from '@octoplane/model/keys.ts';
import type { Entry } from '@octoplane/model/rule-set.ts';
import type { Views } from './batch.ts';

/** A view's entry for a key. */
export function viewEntry(
  views: Pick<Views, 'classOf' | 'classRuleSet' | 'overlay'>,
  node: NodeName,
  key: ServicePortKey,
): Entry | null {
  const own = views.overlay(node).get(key);
  return own !== undefined ? own : (views.classRuleSet(views.classOf(node)).get(key) ?? null);
}
