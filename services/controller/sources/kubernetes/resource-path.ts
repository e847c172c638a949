/** A resource of the API, as its URLs name it. */
export interface Resource {
  /** Empty: the core group. */
  readonly group: string;
  readonly version: string;
  /** In the plural: "endpointslices". */
  readonly plural: string;
}

export interface Place {
  /** Null: across all namespaces, or not namespaced. */
  readonly namespace?: string | null;
  readonly name?: string;
  readonly subresource?: 'status';
}

/** "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/web-abc". */
export function pathOf({ group, version, plural }: Resource, place: Place = {}): string {
  const { namespace = null, name, subresource } = place;
  const root = group === '' ? `/api/${version}` : `/apis/${group}/${version}`;
  const scope = namespace === null ? '' : `/namespaces/${encodeURIComponent(namespace)}`;
  const object = name === undefined ? '' : `/${encodeURIComponent(name)}`;
  return `${root}${scope}/${plural}${object}${subresource === undefined ? '' : `/${subresource}`}`;
}
