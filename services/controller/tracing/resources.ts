import { envDetector, type Resource, resourceFromAttributes } from '@opentelemetry/resources';
import type { NodeRecord } from '../acks/node-record.ts';

/** Of OTEL_RESOURCE_ATTRIBUTES, what is as true of the nodes as of their controller. */
const shared = /^(deployment|k8s\.cluster|service\.namespace|cloud\.(provider|account|region))/;

/** The two services that a change's trace shows: this controller, and the node daemons that it speaks for. */
export class Resources {
  readonly controller: Resource;
  readonly #shared: Readonly<Record<string, unknown>>;
  readonly #nodes = new WeakMap<NodeRecord, Resource>();

  /** OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come from the environment. */
  constructor(release: string) {
    const { attributes = {} } = envDetector.detect();
    this.controller = resourceFromAttributes({
      'service.name': 'octoplane-controller',
      'service.version': release,
      'telemetry.sdk.language': 'nodejs',
      'telemetry.sdk.name': 'opentelemetry',
      ...attributes,
    });
    this.#shared = Object.fromEntries(Object.entries(attributes).filter(([name]) => shared.test(name)));
  }

  node(record: NodeRecord): Resource {
    const known = this.#nodes.get(record);
    if (known?.attributes['service.version'] === record.release) return known;
    const made = resourceFromAttributes({
      ...this.#shared,
      'service.name': 'octoplane-node',
      'service.version': record.release,
      'service.instance.id': record.name,
      'k8s.node.name': record.name,
    });
    this.#nodes.set(record, made);
    return made;
  }
}
