import { status } from '@grpc/grpc-js';
import {
  EndpointExplanation_Kernel,
  type EndpointExplanation as EndpointProto,
  type ExplainRequest,
  type ExplainResponse,
  type PortExplanation as PortProto,
  type Viewpoint,
} from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { type NodeName, nodeName, type ServiceName, servicePortKey } from '@octoplane/model/keys.ts';
import type { Service } from '@octoplane/model/objects.ts';
import { endpointFlags } from '@octoplane/model/rule-set.ts';
import { chooses, formatEndpointTarget } from '../acks/endpoint-target.ts';
import { type KernelKnowledge, kernelEntries } from '../acks/kernel-entries.ts';
import { reasonName } from '../acks/lateness.ts';
import type { NodeBook } from '../acks/node-book.ts';
import type { NodeRecord } from '../acks/node-record.ts';
import type { Clock } from '../clock.ts';
import type { ClassId } from '../compute/batch.ts';
import { type EndpointExplanation, explain, type PortExplanation } from '../compute/explain.ts';
import type { Vantage } from '../compute/topology.ts';
import type { RejectedObject, SourceReport } from '../state/cluster-state.ts';
import { AdminError } from './admin-error.ts';
import { explainTarget } from './explain-target.ts';
import { choiceWords, conditionWords, frontendWords, noEntryWords, whyWords } from './explain-words.ts';
import type { Directory } from './services.ts';
import { changeToProto, nodeToProto } from './to-proto.ts';

export interface ExplainDependencies extends KernelKnowledge {
  readonly book: NodeBook;
  readonly clock: Clock;
  readonly directory: {
    readonly nodes: ReadonlyMap<NodeName, unknown>;
    /** Of all clusters, in the order of precedence. */
    readonly clusters: readonly Directory[];
    /** Of the cluster that a node belongs to. */
    directoryOf(node: NodeName): Directory;
    zoneOf(id: ClassId): string | null;
    reports(): readonly SourceReport[];
    rejected(): readonly RejectedObject[];
  };
}

/** From where a Service is looked at. */
interface Place {
  readonly zone: string;
  readonly vantage: Vantage;
  readonly nodes: number;
  /** The node that was asked about, if a daemon of it is known. */
  readonly record: NodeRecord | null;
}

/** AdminService.Explain. @throws AdminError */
export function explainCall(request: ExplainRequest, dependencies: ExplainDependencies): ExplainResponse {
  const { directory, history, book, clock } = dependencies;
  const local = directoryFor(request, directory);
  const target = explainTarget(request.target, local);
  const service = local.services.get(target.name);
  const rejected = rejectedBeside(target.name, directory);
  const refused = rejected.find(({ object }) => object === `Service ${target.name}`)?.reason ?? '';
  if (!service && refused === '')
    throw new AdminError(status.NOT_FOUND, `there is no Service ${target.name}; octoplane services lists them`);
  const places = placesOf(request.node, local, dependencies);
  const sequence = history.newestOf(target.name);
  const change = sequence === null ? null : history.at(sequence);
  const source = local.sourceOf(target.name) ?? '';
  const record = places[0]?.record ?? null;
  return {
    source,
    service: target.name,
    type: service?.type ?? '',
    revision: service?.meta.revision ?? '',
    stale: staleWords(source, directory, clock.nowUs()),
    refused,
    lastChange: change ? changeToProto(change, history.epoch, book.convergence(change.sequence)) : undefined,
    viewpoints: service ? places.map((place) => viewpointOf(service, target.port, { place, local }, dependencies)) : [],
    rejected: [...rejected],
    node: record ? nodeToProto(record, history, clock.nowUs()) : undefined,
  };
}

/** Of the node's cluster, or of the first that has what is asked about. */
function directoryFor({ node, target }: ExplainRequest, directory: ExplainDependencies['directory']): Directory {
  if (node !== '') return directory.directoryOf(nodeName(node));
  const [first, ...others] = directory.clusters;
  if (!first) throw new TypeError('a controller has a cluster at least');
  return [first, ...others].find((one) => knows(one, target)) ?? first;
}

function knows(directory: Directory, target: string): boolean {
  try {
    return directory.services.has(explainTarget(target, directory).name);
  } catch (error) {
    if (error instanceof AdminError) return false;
    throw error;
  }
}

function placesOf(node: string, local: Directory, { book, views, directory }: ExplainDependencies): readonly Place[] {
  if (node !== '') {
    const name = nodeName(node);
    const record = book.find(name);
    if (record === null && !directory.nodes.has(name))
      throw new AdminError(status.NOT_FOUND, `there is no node ${node}; octoplane nodes lists them`);
    const zone = views.classOf(name);
    return [{ zone, vantage: { zone: directory.zoneOf(zone), node: name }, nodes: 1, record }];
  }
  const zones = new Map<string, number>();
  const names = new Set<NodeName>(directory.nodes.keys());
  for (const { name } of book.records) names.add(name);
  for (const name of names)
    if (directory.directoryOf(name) === local)
      zones.set(views.classOf(name), (zones.get(views.classOf(name)) ?? 0) + 1);
  if (zones.size === 0) zones.set('-', 0);
  return Array.from([...zones].sort(), ([zone, nodes]) => ({
    zone,
    vantage: { zone: directory.zoneOf(zone), node: null },
    nodes,
    record: null,
  }));
}

function viewpointOf(
  service: Service,
  port: number | null,
  { place, local }: { readonly place: Place; readonly local: Directory },
  dependencies: ExplainDependencies,
): Viewpoint {
  const slices = local.slicesOf(service.name);
  const ports = explain(service, slices, place.vantage).filter((one) => port === null || one.port.port === port);
  return {
    zone: place.zone,
    node: place.vantage.node ?? '',
    nodes: place.nodes,
    ports: ports.map((one) => portToProto(service, one, place, dependencies)),
  };
}

function portToProto(
  service: Service,
  explained: PortExplanation,
  place: Place,
  dependencies: ExplainDependencies,
): PortProto {
  const { name, port, protocol } = explained.port;
  const key = servicePortKey(service.name, port, protocol);
  if (explained.t === 'no entry')
    return { key, name, frontends: [], noEntry: noEntryWords[explained.why], choices: [], endpoints: [], heldBack: '' };
  const held = place.record?.refused?.get(key);
  return {
    key,
    name,
    frontends: [...frontendWords(explained)],
    noEntry: '',
    choices: choiceWords(explained, service, place.vantage),
    endpoints: explained.endpoints.map((endpoint) => ({
      ...endpointToProto(endpoint, place.vantage),
      kernel: place.record
        ? kernelOf(place.record, explained, endpoint, dependencies)
        : EndpointExplanation_Kernel.UNSPECIFIED,
    })),
    heldBack: held ? held.message || reasonName(held.reason) : '',
  };
}

function endpointToProto(explanation: EndpointExplanation, vantage: Vantage): Omit<EndpointProto, 'kernel'> {
  const { slice, endpoint, port, flags } = explanation;
  return {
    address: formatEndpointTarget({ ip: endpoint.ip, port }),
    node: endpoint.node ?? '',
    zone: endpoint.zone ?? '',
    slice: slice.name,
    sliceRevision: slice.meta.revision,
    condition: conditionWords(endpoint),
    flags,
    chosen: (flags & (endpointFlags.cluster | endpointFlags.local)) !== 0,
    why: whyWords(explanation, vantage),
  };
}

function kernelOf(
  record: NodeRecord,
  { key }: PortExplanation & { readonly t: 'entry' },
  { endpoint, port, clusterWhy }: EndpointExplanation,
  knowledge: KernelKnowledge,
): EndpointExplanation_Kernel {
  // The kernel has the address once; it is told of beside the slice that counts.
  if (clusterWhy === 'double') return EndpointExplanation_Kernel.UNSPECIFIED;
  if (port === null) return EndpointExplanation_Kernel.NO;
  const entries = kernelEntries(record, key, knowledge);
  if (entries === null) return EndpointExplanation_Kernel.MAYBE;
  const choices = entries.map((entry) => chooses(entry, { ip: endpoint.ip, port }));
  if (choices.every(Boolean)) return EndpointExplanation_Kernel.YES;
  return choices.some(Boolean) ? EndpointExplanation_Kernel.MAYBE : EndpointExplanation_Kernel.NO;
}

/** The Service itself, and EndpointSlices of its namespace: which Service a refused one belongs to may be what is wrong with it. */
function rejectedBeside(name: ServiceName, directory: ExplainDependencies['directory']): readonly RejectedObject[] {
  const namespace = name.slice(0, name.indexOf('/'));
  return directory
    .rejected()
    .filter(({ object }) => object === `Service ${name}` || object.startsWith(`EndpointSlice ${namespace}/`));
}

function staleWords(source: string, directory: ExplainDependencies['directory'], nowUs: number): string {
  const report = directory.reports().find(({ name }) => name === source);
  if (report?.condition.t !== 'stale') return '';
  return `for ${Math.round((nowUs / 1000 - report.sinceMs) / 1000)} s: ${report.condition.reason}`;
}
