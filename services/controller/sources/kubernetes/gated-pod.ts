import { canonicalIp, type Ip } from '@octoplane/model/address.ts';
import { type Fields, isFields } from '@octoplane/model/findings.ts';

/** In spec.readinessGates of a Pod: it is not Ready before every node that is to route to it can. */
export const gateCondition = 'octoplane.io/programmed';

/**
 * Pods with the gate have this label, so that the others need not be watched: no selector of the API looks at spec.readinessGates.
 */
export const gateLabelSelector = 'octoplane.io/gate=programmed';

/** A Pod with our gate, projected to what decides about it. */
export interface GatedPod {
  /** "NAMESPACE/NAME" */
  readonly name: string;
  readonly uid: string;
  readonly ips: readonly Ip[];
  /** Its containers are ready, and so are all other gates: ours is all that it may lack. Not of a Pod that is being deleted. */
  readonly lacksOnlyGate: boolean;
  /** The condition is True. */
  readonly isOpen: boolean;
}

/** Null: it has no gate of ours, or ends. An API server has checked it, so what is missing counts as not there. */
export function readGatedPod(manifest: Fields): GatedPod | null {
  const metadata = fieldsOf(manifest['metadata']);
  const status = fieldsOf(manifest['status']);
  const gates = listOf(fieldsOf(manifest['spec'])['readinessGates']).map(({ conditionType }) => conditionType);
  if (!gates.includes(gateCondition) || metadata['deletionTimestamp'] !== undefined) return null;
  const trueConditions = new Set(
    listOf(status['conditions']).flatMap((condition) => (condition['status'] === 'True' ? [condition['type']] : [])),
  );
  const others = gates.filter((type) => type !== gateCondition);
  return {
    name: `${String(metadata['namespace'])}/${String(metadata['name'])}`,
    uid: String(metadata['uid']),
    ips: listOf(status['podIPs']).flatMap(({ ip }) => canonicalIp(String(ip)) ?? []),
    lacksOnlyGate: ['ContainersReady', ...others].every((type) => trueConditions.has(type)),
    isOpen: trueConditions.has(gateCondition),
  };
}

const fieldsOf = (value: unknown): Fields => (isFields(value) ? value : {});

const listOf = (value: unknown): readonly Fields[] => (Array.isArray(value) ? value.filter(isFields) : []);
