import { familyOf, type Ip } from '@octoplane/model/address.ts';
import type { EntryChange } from '@octoplane/model/delta.ts';
import { type Family, parseServicePortKey } from '@octoplane/model/keys.ts';
import { type Entry, endpointFlags, type TrafficPolicy } from '@octoplane/model/rule-set.ts';

/** A UDP flow as conntrack knows it: what the client sent to, and who answers it. */
export interface Flow {
  readonly source: Ip;
  readonly sourcePort: number;
  readonly destination: Ip;
  readonly destinationPort: number;
  /** Source of the answers: the endpoint where the flow is translated, otherwise the destination itself. */
  readonly answers: Ip;
  readonly answersPort: number;
  /** Where the answers go: the client, unless it is masqueraded. */
  readonly answersTo: Ip;
}

/**
 * A set of flows that a change has made stale. What is given of `destination`, `destinationPort`, `answers` and `answersPort`
 * is exact and can be matched by the kernel; `isStale` decides about what that finds.
 */
export interface StaleFlows {
  readonly family: Family;
  readonly destination: Ip | null;
  readonly destinationPort: number | null;
  readonly answers: Ip | null;
  readonly answersPort: number | null;
  readonly isStale: (flow: Flow) => boolean;
}

/**
 * The UDP flows that outlive the rule that made them (P30, P31), from the changes alone:
 *   1. flows to an endpoint that is gone, through any frontend of its service port. One that only drains is still there;
 *   2. flows to a frontend that is gone while its service port stays;
 *   3. flows to a frontend that has an endpoint from now on and had none: they were let through untranslated.
 * TCP and SCTP end by themselves and are never touched (P32).
 */
export function staleFlows(changes: readonly EntryChange[]): readonly StaleFlows[] {
  return changes.flatMap((change) => {
    const id = parseServicePortKey(change.key);
    if (id?.protocol !== 'UDP') return [];
    return families.flatMap((family) => {
      const before = sideOf(change.before, id.port, family);
      const after = sideOf(change.after, id.port, family);
      return [...toGoneEndpoints(before, after), ...toGoneFrontends(before, after), ...untranslated(before, after)];
    });
  });
}

const families = ['IPv4', 'IPv6'] as const;

interface Frontend {
  /** Null: any address of the node. */
  readonly ip: Ip | null;
  readonly port: number;
  /** Has an endpoint for new flows. */
  readonly serves: boolean;
}

/** One family of an entry. */
interface Side {
  readonly family: Family;
  readonly frontends: ReadonlyMap<string, Frontend>;
  /** With the draining ones. */
  readonly endpoints: ReadonlyMap<string, { readonly ip: Ip; readonly port: number }>;
}

function sideOf(entry: Entry | null, port: number, family: Family): Side {
  const frontends = new Map<string, Frontend>();
  const endpoints = new Map<string, { readonly ip: Ip; readonly port: number }>();
  if (entry) {
    const { spec } = entry;
    const own = entry.endpoints.filter(({ ip }) => familyOf(ip) === family);
    for (const { ip, port: endpointPort } of own) endpoints.set(nameOf(ip, endpointPort), { ip, port: endpointPort });
    const add = (ip: Ip | null, frontendPort: number, policy: TrafficPolicy) => {
      if (ip !== null && familyOf(ip) !== family) return;
      const flag = policy === 'Local' ? endpointFlags.local : endpointFlags.cluster;
      frontends.set(nameOf(ip, frontendPort), {
        ip,
        port: frontendPort,
        serves: own.some(({ flags }) => (flags & flag) !== 0),
      });
    };
    for (const ip of spec.clusterIps) add(ip, port, spec.internalPolicy);
    for (const ip of [...spec.externalIps, ...spec.loadBalancerIps]) add(ip, port, spec.externalPolicy);
    if (spec.nodePort !== 0) add(null, spec.nodePort, spec.externalPolicy);
  }
  return { family, frontends, endpoints };
}

const nameOf = (ip: Ip | null, port: number): string => `${ip ?? '*'} ${port}`;

const goesTo = ({ frontends }: Side, flow: Flow): boolean =>
  frontends.has(nameOf(flow.destination, flow.destinationPort)) || frontends.has(nameOf(null, flow.destinationPort));

const isTranslated = (flow: Flow): boolean =>
  flow.answers !== flow.destination || flow.answersPort !== flow.destinationPort;

function* toGoneEndpoints(before: Side, after: Side): Generator<StaleFlows> {
  for (const [name, { ip, port }] of before.endpoints)
    if (!after.endpoints.has(name))
      yield {
        family: before.family,
        destination: null,
        destinationPort: null,
        answers: ip,
        answersPort: port,
        // A client that talks to the endpoint itself is none of our business.
        isStale: (flow) => isTranslated(flow) && goesTo(before, flow),
      };
}

function* toGoneFrontends(before: Side, after: Side): Generator<StaleFlows> {
  // Where all endpoints are gone the flows are found by them.
  if (after.endpoints.size === 0) return;
  for (const [name, { ip, port }] of before.frontends)
    if (!after.frontends.has(name))
      yield {
        family: before.family,
        destination: ip,
        destinationPort: port,
        answers: null,
        answersPort: null,
        isStale: (flow) => isTranslated(flow) && before.endpoints.has(nameOf(flow.answers, flow.answersPort)),
      };
}

function* untranslated(before: Side, after: Side): Generator<StaleFlows> {
  for (const [name, { ip, port, serves }] of after.frontends)
    if (serves && !before.frontends.get(name)?.serves)
      yield {
        family: after.family,
        destination: ip,
        destinationPort: port,
        answers: null,
        answersPort: null,
        // A node port is a number that other hosts use too: flows that only pass by may be masqueraded, ours cannot yet be.
        isStale: (flow) => !isTranslated(flow) && (ip !== null || flow.answersTo === flow.source),
      };
}
