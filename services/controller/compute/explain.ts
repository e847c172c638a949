import type { Family, ServicePortKey } from '@octoplane/model/keys.ts';
import type { EndpointSlice, Service, ServicePort, SliceEndpoint } from '@octoplane/model/objects.ts';
import { endpointFlags, type ServicePortSpec } from '@octoplane/model/rule-set.ts';
import {
  type FamilyCandidates,
  familiesOf,
  mayServe,
  type NoEntry,
  prepare,
  slicePortOf,
  whyNoEntry,
} from './prepare.ts';
import { flagsOf, isHere, type Situation, situationOf } from './resolve.ts';
import type { TopologyMode, Vantage } from './topology.ts';

/**
 * Why the rule set of a node is what it is, for one Service: every endpoint of every slice, and what kept it from being
 * chosen. It decides nothing. Flags are resolve.ts's own, and the law (explain.test.ts) is that reasons agree with them: an endpoint is
 * chosen for a policy exactly where no reason against it is given.
 */
export type PortExplanation =
  | { readonly t: 'no entry'; readonly port: ServicePort; readonly why: NoEntry }
  | {
      readonly t: 'entry';
      readonly port: ServicePort;
      readonly key: ServicePortKey;
      readonly spec: ServicePortSpec;
      readonly families: readonly FamilyExplanation[];
      /** In the order of slices. */
      readonly endpoints: readonly EndpointExplanation[];
    };

export interface FamilyExplanation {
  readonly family: Family;
  readonly mode: TopologyMode;
  readonly modeWhy: ModeWhy;
  /** Ready endpoints without a zone hint, of all ready ones. */
  readonly unhinted: number;
  readonly ready: number;
}

/** Why the Cluster policy has the reach that it has. */
export type ModeWhy =
  | 'no frontend uses it'
  | 'no hints'
  | 'incomplete hints'
  | 'node without zone'
  | 'zone without endpoints'
  | 'zone hints'
  | 'node hints';

export interface EndpointExplanation {
  readonly slice: EndpointSlice;
  readonly endpoint: SliceEndpoint;
  /** Null: the slice has none of this name. */
  readonly port: number | null;
  /** As in the node's rule set; 0: it is not in it. */
  readonly flags: number;
  /** Null: chosen. */
  readonly clusterWhy: WhyNot | null;
  readonly localWhy: WhyNot | null;
}

export type WhyNot =
  /** The slice is of a headless Service. */
  | 'headless slice'
  /** The Service has no address of this family. */
  | 'other family'
  | 'no such port'
  | 'not ready'
  /** Terminating, and does not serve any more. */
  | 'ended'
  /** Another slice has the same endpoint, and that one counts. */
  | 'double'
  /** The Service asks for locality, and the node's own cluster has a ready one. */
  | 'other cluster'
  /** No frontend has this policy. */
  | 'policy not used'
  | 'hinted for other zones'
  | 'hinted for other nodes'
  | 'on another node'
  /** Terminating while others are ready. */
  | 'draining';

const { cluster, local } = endpointFlags;

export function explain(
  service: Service,
  slices: readonly EndpointSlice[],
  vantage: Vantage,
): readonly PortExplanation[] {
  const prepared = [...prepare(service, slices)];
  return service.ports.map((port): PortExplanation => {
    const why = whyNoEntry(service, port);
    if (why !== null) return { t: 'no entry', port, why };
    const entry = prepared.shift();
    if (!entry) throw new TypeError(`${service.name} has no entry for port ${port.port}, and no reason for that`);
    const situations = new Map(
      entry.families.map((family) => [family.family, { family, situation: situationOf(entry, family, vantage) }]),
    );
    return {
      t: 'entry',
      port,
      key: entry.key,
      spec: entry.spec,
      families: Array.from(situations.values(), ({ family, situation }) => explainFamily(family, situation)),
      endpoints: slices.flatMap((slice) =>
        slice.endpoints.map((endpoint) => explainEndpoint({ service, port, slice, endpoint }, situations)),
      ),
    };
  });
}

function explainFamily({ family, ready, hints }: FamilyCandidates, situation: Situation): FamilyExplanation {
  return {
    family,
    mode: situation.mode,
    modeWhy: modeWhyOf({ ready, hints }, situation),
    unhinted: ready.filter(({ endpoint }) => endpoint.zoneHints.length === 0).length,
    ready: ready.length,
  };
}

function modeWhyOf(
  { ready, hints }: Pick<FamilyCandidates, 'ready' | 'hints'>,
  { mode, vantage, usesCluster }: Situation,
): ModeWhy {
  if (!usesCluster) return 'no frontend uses it';
  if (mode === 'node') return 'node hints';
  if (mode === 'zone') return 'zone hints';
  if (!ready.some(({ endpoint }) => endpoint.zoneHints.length > 0)) return 'no hints';
  if (!hints.everyZone) return 'incomplete hints';
  return vantage.zone === null ? 'node without zone' : 'zone without endpoints';
}

interface Subject {
  readonly service: Service;
  readonly port: ServicePort;
  readonly slice: EndpointSlice;
  readonly endpoint: SliceEndpoint;
}

type Situations = ReadonlyMap<Family, { readonly family: FamilyCandidates; readonly situation: Situation }>;

function explainEndpoint(subject: Subject, situations: Situations): EndpointExplanation {
  const { slice, endpoint } = subject;
  const known = situations.get(slice.family);
  const port = slicePortOf(slice, subject.port)?.port ?? null;
  const notCandidate = whyNoCandidate(subject, known?.family);
  if (notCandidate !== null || !known)
    return { slice, endpoint, port, flags: 0, clusterWhy: notCandidate, localWhy: notCandidate };
  const { situation } = known;
  const flags = flagsOf(endpoint, situation);
  return {
    slice,
    endpoint,
    port,
    flags,
    clusterWhy: (flags & cluster) === 0 ? whyNotCluster(endpoint, situation) : null,
    localWhy: (flags & local) === 0 ? whyNotLocal(endpoint, situation) : null,
  };
}

/** Null: it is one. */
function whyNoCandidate(
  { service, port, slice, endpoint }: Subject,
  family: FamilyCandidates | undefined,
): WhyNot | null {
  if (slice.headless) return 'headless slice';
  if (!family || !familiesOf(service).includes(slice.family)) return 'other family';
  if (!slicePortOf(slice, port)) return 'no such port';
  if (!mayServe(endpoint)) return endpoint.terminating ? 'ended' : 'not ready';
  const candidates = endpoint.ready ? family.ready : family.terminating;
  if (candidates.some((candidate) => candidate.endpoint === endpoint)) return null;
  const { preferredCluster } = service;
  return preferredCluster !== undefined && slice.cluster !== preferredCluster ? 'other cluster' : 'double';
}

function whyNotCluster(endpoint: SliceEndpoint, { usesCluster, mode }: Situation): WhyNot {
  if (!usesCluster) return 'policy not used';
  if (!endpoint.ready) return 'draining';
  return mode === 'node' ? 'hinted for other nodes' : 'hinted for other zones';
}

function whyNotLocal(endpoint: SliceEndpoint, { usesLocal, vantage }: Situation): WhyNot {
  if (!usesLocal) return 'policy not used';
  return isHere(endpoint, vantage) ? 'draining' : 'on another node';
}
