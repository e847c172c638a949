import type { Fields, Findings, Path } from './findings.ts';
import type { ObjectMeta } from './objects.ts';

/** What the source knows of an object beside the object. */
export type Origin = Pick<ObjectMeta, 'revision' | 'changedAtUs'>;

export interface Metadata {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Fields;
  /** Has a deletion timestamp. */
  readonly deleting: boolean;
  readonly meta: ObjectMeta;
}

/** Service or slice that is not for a proxy (P42). */
export const headlessLabel = 'service.kubernetes.io/headless';

/** RFC 1123 label, and subdomain: what Kubernetes allows in names. */
const label = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const subdomain = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

export const isLabel = (text: string): boolean => label.test(text);
export const isSubdomain = (text: string): boolean => subdomain.test(text);

const at: Path = ['metadata'];

export function readMetadata(
  manifest: Fields,
  origin: Origin,
  findings: Findings,
  form: { readonly namespaced: boolean; readonly name: 'label' | 'subdomain' },
): Metadata {
  const metadata = findings.fields(manifest, 'metadata', []);
  const name = findings.text(metadata, 'name', at);
  const namespace = form.namespaced ? findings.text(metadata, 'namespace', at) || 'default' : '';
  const isName = form.name === 'label' ? isLabel : isSubdomain;
  if (!isName(name)) {
    const reason = name === '' ? 'the object has no name' : `${JSON.stringify(name.slice(0, 80))} is not a name`;
    findings.refuse([...at, 'name'], reason, 'use lower-case letters, digits and "-"');
  }
  if (form.namespaced && !isLabel(namespace))
    findings.refuse(
      [...at, 'namespace'],
      `${JSON.stringify(namespace.slice(0, 80))} is not a namespace`,
      'use letters, digits and "-"',
    );
  const annotations = findings.fields(metadata, 'annotations', at);
  return {
    namespace,
    name,
    labels: findings.fields(metadata, 'labels', at),
    deleting: (metadata['deletionTimestamp'] ?? null) !== null,
    meta: {
      revision: origin.revision,
      createdAtMs: createdAtMs(metadata, findings),
      changedAtUs: changedAtUs(annotations, findings) ?? origin.changedAtUs,
      ...traceparent(annotations, findings),
    },
  };
}

function createdAtMs(metadata: Fields, findings: Findings): number | null {
  const us = timestampUs(findings.text(metadata, 'creationTimestamp', at));
  return us === null ? null : Math.floor(us / 1000);
}

const triggerTime = 'endpoints.kubernetes.io/last-change-trigger-time';

/** When the endpoints' pods or Service changed, as the EndpointSlice controller noted it. */
function changedAtUs(annotations: Fields, findings: Findings): number | null {
  const text = annotations[triggerTime];
  if (typeof text !== 'string') return null;
  const us = timestampUs(text);
  if (us === null)
    findings.warn(
      [...at, 'annotations', triggerTime],
      `${JSON.stringify(text.slice(0, 60))} is not a time`,
      'use RFC 3339',
    );
  return us;
}

const traceparentName = 'tracing.k8s.io/traceparent';
/** W3C Trace Context, level 1: version, trace id and parent id that are not all zero, flags. */
const traceparentForm = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;

/** KEP-5915. */
function traceparent(annotations: Fields, findings: Findings): Pick<ObjectMeta, 'traceparent' | 'hasBadTraceparent'> {
  const text = annotations[traceparentName];
  if (typeof text !== 'string') return { traceparent: null };
  if (traceparentForm.test(text)) return { traceparent: text };
  findings.warn([...at, 'annotations', traceparentName], 'the trace context is not of the W3C form', 'it is left out');
  return { traceparent: null, hasBadTraceparent: true };
}

const rfc3339 = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/i;

/** Microseconds since 1970 of an RFC 3339 time, which Date would cut to milliseconds. */
export function timestampUs(text: string): number | null {
  const match = rfc3339.exec(text);
  if (!match) return null;
  const [, seconds = '', fraction = '', zone = ''] = match;
  const ms = Date.parse(`${seconds}${zone}`);
  return Number.isNaN(ms) ? null : ms * 1000 + Number(fraction.padEnd(6, '0').slice(0, 6));
}
