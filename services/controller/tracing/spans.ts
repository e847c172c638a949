import { fanOutSpanIdOf, rootSpanIdOf, traceIdOf } from '@octoplane/model/trace-id.ts';
import {
  type Attributes,
  type Link,
  type SpanContext,
  SpanKind,
  type SpanStatus,
  SpanStatusCode,
  TraceFlags,
} from '@opentelemetry/api';
import type { Resource } from '@opentelemetry/resources';
import type { ReadableSpan } from '@opentelemetry/sdk-trace';
import type { NodeRecord } from '../acks/node-record.ts';
import { traceparentsOf } from '../stream/deltas.ts';
import type { EndedChange } from './change-trace.ts';
import type { Fate, NotableNode } from './notable-nodes.ts';
import { type Interval, place } from './placement.ts';

export interface SpanMaking {
  readonly epoch: number;
  /** Of the controller. */
  readonly resource: Resource;
  readonly resourceOf: (node: NodeRecord) => Resource;
  readonly scope: { readonly name: string; readonly version: string };
  /** 16 hexadecimal digits. */
  readonly newSpanId: () => string;
}

/** A viewer shows a handful, and a relist has thousands. */
const maxListed = 20;
const maxLinks = 32;

/**
 * The trace of one change.
 *
 *   change                                        from the source's event to the last answer
 *   ├── observe                                   until the source had told us
 *   ├── pace                                      until the pacer let the batch go
 *   ├── compute
 *   ├── commit                                    until it was known whom it concerns
 *   └── fan-out                                   until the last answer; its attributes count all nodes
 *       ├── encode                                once for all nodes at the same version, in the first frame that was sent
 *       └── deliver                               for the notable nodes: from frame to ack
 *           └── receive, validate, program, read back      with the node as their resource
 *
 * Spans have one parent, in their own trace. What a batch holds together is linked: a delivery to the other changes of its frame, a change
 * to the contexts that its objects carry.
 */
export function spansOf(change: EndedChange, making: SpanMaking): ReadableSpan[] {
  const { commit, observe } = change;
  const version = { epoch: making.epoch, sequence: commit.sequence };
  const traceId = traceIdOf(version);
  const draft = new Draft(making, traceId);
  const root = rootSpanIdOf(version);
  const fanOut = fanOutSpanIdOf(version);
  const { causes } = commit.batch;

  draft.add(null, {
    id: root,
    name: 'change',
    interval: { fromUs: observe.fromUs, toUs: change.endedAtUs },
    attributes: {
      ...versionAttributes(version),
      'octoplane.causes': causes.slice(0, maxListed).map(({ object }) => object),
      'octoplane.causes.count': causes.length,
      'octoplane.services': [...commit.services].slice(0, maxListed),
      'octoplane.services.count': commit.services.size,
    },
    status: statusOf(change),
    links: traceparentsOf([commit]).map((traceparent) => ({ context: contextOf(traceparent) })),
  });
  draft.add(root, {
    name: 'observe',
    interval: observe,
    attributes: { 'octoplane.sources': [...new Set(causes.map(({ source }) => source))] },
  });
  draft.add(root, { name: 'pace', interval: { fromUs: observe.toUs, toUs: commit.computedFromUs } });
  draft.add(root, { name: 'compute', interval: { fromUs: commit.computedFromUs, toUs: commit.committedAtUs } });
  draft.add(root, { name: 'commit', interval: { fromUs: commit.committedAtUs, toUs: change.bookedAtUs } });
  draft.add(root, {
    id: fanOut,
    name: 'fan-out',
    interval: { fromUs: change.bookedAtUs, toUs: change.endedAtUs },
    attributes: fanOutAttributes(change),
    status: statusOf(change),
  });
  for (const { from, to, fromUs, toUs, bytes } of change.encodings)
    draft.add(fanOut, {
      name: 'encode',
      interval: { fromUs, toUs },
      attributes: { 'octoplane.frame.from': from, 'octoplane.frame.to': to, 'octoplane.frame.bytes': bytes },
    });
  for (const notable of change.notable) addDelivery(draft, fanOut, notable, change);
  return draft.spans;
}

/** As many as spansOf will make. */
export const countSpans = ({ encodings, notable }: EndedChange): number =>
  notable.reduce((sum, { fate }) => sum + (isMeasured(fate) ? 5 : 1), 6 + encodings.length);

/** The node has said how long its steps took. */
const isMeasured = (fate: Fate): boolean =>
  fate.t === 'programmed' && fate.ack.frame !== null && fate.ack.durations !== undefined;

function addDelivery(
  draft: Draft,
  fanOut: string,
  { node, for: distinctions, fate }: NotableNode,
  change: EndedChange,
): void {
  const attributes: Attributes = {
    'octoplane.node': node.name,
    'octoplane.zone': node.residences.at(-1)?.id ?? node.zone,
    'octoplane.driver': node.driver,
    'octoplane.shown_for': [...distinctions],
  };
  if (fate.t === 'missing') {
    draft.add(fanOut, {
      name: 'deliver',
      kind: SpanKind.CLIENT,
      interval: { fromUs: change.bookedAtUs, toUs: change.endedAtUs },
      attributes,
      status: { code: SpanStatusCode.ERROR, message: fate.why },
    });
    return;
  }
  const frame = fate.t === 'programmed' ? fate.ack.frame : fate.refusal;
  const window = { fromUs: frame?.sentAtUs ?? change.bookedAtUs, toUs: fate.atUs };
  const deliver = draft.add(fanOut, {
    name: 'deliver',
    kind: SpanKind.CLIENT,
    interval: window,
    attributes: {
      ...attributes,
      'octoplane.latency_us': fate.atUs - change.commit.committedAtUs,
      ...(frame && { 'octoplane.frame.from': frame.from, 'octoplane.frame.to': frame.to }),
      ...(fate.t === 'refused' && {
        'octoplane.refusal.stage': fate.refusal.stage,
        'octoplane.refusal.reason': fate.refusal.reason,
        'octoplane.refusal.keys': fate.refusal.keys.slice(0, maxListed),
      }),
    },
    ...(fate.t === 'refused' && {
      status: { code: SpanStatusCode.ERROR, message: `${fate.refusal.reason} ${fate.refusal.message}`.trim() },
    }),
    links: frame ? draft.linksToOthers(frame, change.commit.sequence) : [],
  });
  if (fate.t !== 'programmed' || !frame || !fate.ack.durations) return;
  const work = place(window, fate.ack.durations);
  const steps = { receive: work.receive, validate: work.validate, program: work.program, 'read back': work.readBack };
  for (const [name, interval] of Object.entries(steps))
    draft.add(deliver, {
      name,
      interval,
      resource: node,
      kind: name === 'receive' ? SpanKind.SERVER : SpanKind.INTERNAL,
    });
}

interface SpanDraft {
  readonly id?: string;
  readonly name: string;
  readonly kind?: SpanKind;
  readonly interval: Interval;
  readonly attributes?: Attributes;
  readonly status?: SpanStatus;
  readonly links?: Link[];
  /** Default: the controller. */
  readonly resource?: NodeRecord;
}

class Draft {
  readonly spans: ReadableSpan[] = [];
  readonly #making: SpanMaking;
  readonly #traceId: string;

  constructor(making: SpanMaking, traceId: string) {
    this.#making = making;
    this.#traceId = traceId;
  }

  /** Returns its id. */
  add(parent: string | null, draft: SpanDraft): string {
    const { resource, resourceOf, scope, newSpanId } = this.#making;
    const { id = newSpanId(), interval } = draft;
    const context = this.#context(id);
    const toUs = Math.max(interval.fromUs, interval.toUs);
    const links = draft.links ?? [];
    this.spans.push({
      name: draft.name,
      kind: draft.kind ?? SpanKind.INTERNAL,
      spanContext: () => context,
      ...(parent !== null && { parentSpanContext: this.#context(parent) }),
      startTime: hrTime(interval.fromUs),
      endTime: hrTime(toUs),
      duration: hrTime(toUs - interval.fromUs),
      status: draft.status ?? { code: SpanStatusCode.UNSET },
      attributes: draft.attributes ?? {},
      links,
      events: [],
      ended: true,
      resource: draft.resource ? resourceOf(draft.resource) : resource,
      instrumentationScope: scope,
      droppedAttributesCount: 0,
      droppedEventsCount: 0,
      droppedLinksCount: 0,
    });
    return id;
  }

  /** To the changes beside this one in a frame, the newest first. */
  linksToOthers({ from, to }: { readonly from: number; readonly to: number }, own: number): Link[] {
    const { epoch } = this.#making;
    const links: Link[] = [];
    for (let sequence = to; sequence > from && links.length < maxLinks; sequence--) {
      if (sequence === own) continue;
      const version = { epoch, sequence };
      links.push({
        context: { traceId: traceIdOf(version), spanId: rootSpanIdOf(version), traceFlags: TraceFlags.SAMPLED },
        attributes: versionAttributes(version),
      });
    }
    return links;
  }

  #context(spanId: string): SpanContext {
    return { traceId: this.#traceId, spanId, traceFlags: TraceFlags.SAMPLED };
  }
}

const versionAttributes = ({ epoch, sequence }: { readonly epoch: number; readonly sequence: number }): Attributes => ({
  'octoplane.version.epoch': epoch,
  'octoplane.version.sequence': sequence,
});

function fanOutAttributes(change: EndedChange): Attributes {
  const attributes: Attributes = {
    'octoplane.nodes': change.concerned,
    'octoplane.nodes.programmed': change.programmed,
    'octoplane.nodes.late': change.missing - change.away,
    'octoplane.nodes.away': change.away,
    'octoplane.nodes.shown': change.notable.length,
    'octoplane.refusals': change.refusals,
    'octoplane.encodings': change.encoded,
  };
  if (change.writtenAtUs !== null) attributes['octoplane.written_us'] = change.writtenAtUs - change.bookedAtUs;
  for (const [percentile, us] of change.reached) attributes[`octoplane.convergence.p${percentile}_us`] = us;
  return attributes;
}

function statusOf({ missing, away, refusals }: EndedChange): SpanStatus {
  const late = missing - away;
  if (late === 0 && refusals === 0) return { code: SpanStatusCode.UNSET };
  const words = [late > 0 ? `${late} nodes are late` : '', refusals > 0 ? `refused ${refusals} times` : ''];
  return { code: SpanStatusCode.ERROR, message: words.filter((each) => each !== '').join(', ') };
}

/** Of a W3C traceparent, which has been checked when its object was read. */
function contextOf(traceparent: string): SpanContext {
  const [, traceId = '', spanId = '', flags = ''] = traceparent.split('-');
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true };
}

const hrTime = (us: number): [number, number] => [Math.floor(us / 1_000_000), (us % 1_000_000) * 1000];
