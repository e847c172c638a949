/** Names that must not be mixed up, as branded strings. */

declare const brand: unique symbol;
type Branded<Tag extends string> = string & { readonly [brand]: Tag };

/** "NAMESPACE/NAME" of a Service. */
export type ServiceName = Branded<'ServiceName'>;
/** "NAMESPACE/NAME:PORT/PROTOCOL": identity of an entry in a rule set. */
export type ServicePortKey = Branded<'ServicePortKey'>;
export type NodeName = Branded<'NodeName'>;

export const protocols = ['TCP', 'UDP', 'SCTP'] as const;
export type Protocol = (typeof protocols)[number];

export type Family = 'IPv4' | 'IPv6';

export const serviceName = (namespace: string, name: string): ServiceName => `${namespace}/${name}` as ServiceName;

export const nodeName = (name: string): NodeName => name as NodeName;

export const servicePortKey = (service: ServiceName, port: number, protocol: Protocol): ServicePortKey =>
  `${service}:${port}/${protocol}` as ServicePortKey;

export interface ServicePortId {
  readonly service: ServiceName;
  readonly port: number;
  readonly protocol: Protocol;
}

const keyForm = /^([a-z0-9.-]{1,253}\/[a-z0-9.-]{1,253}):([0-9]{1,5})\/(TCP|UDP|SCTP)$/;

/** Takes a key apart, or null when the text is not one. */
export function parseServicePortKey(text: string): ServicePortId | null {
  const match = keyForm.exec(text);
  if (!match) return null;
  const [, service = '', portText = '', protocol] = match;
  const port = Number(portText);
  if (port < 1 || port > 65_535) return null;
  return { service: service as ServiceName, port, protocol: protocol as Protocol };
}
