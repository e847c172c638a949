import { status } from '@grpc/grpc-js';
import type { ServiceName } from '@octoplane/model/keys.ts';
import type { Service } from '@octoplane/model/objects.ts';
import { type EndpointTarget, formatEndpointTarget, parseEndpointTarget } from '../acks/endpoint-target.ts';
import { AdminError } from './admin-error.ts';
import type { Directory } from './services.ts';

/** What ExplainRequest.target means: a Service by its name, and maybe one of its ports. */
export interface ExplainTarget {
  readonly name: ServiceName;
  /** Null: all of them. */
  readonly port: number | null;
}

/** @throws AdminError where it means nothing. */
export function explainTarget(text: string, directory: Directory): ExplainTarget {
  const [, nodePort] = /^:(\d{1,5})$/.exec(text) ?? [];
  if (nodePort !== undefined) return byNodePort(Number(nodePort), directory);
  const address = parseEndpointTarget(text);
  if (address !== null) return byAddress(address, directory);
  if (/^[^/\s]+\/[^/\s]+$/.test(text)) return { name: text as ServiceName, port: null };
  throw new AdminError(
    status.INVALID_ARGUMENT,
    `"${text}" is no Service; write NAMESPACE/NAME, an address such as 10.96.0.10:80, or :NODEPORT`,
  );
}

function byNodePort(nodePort: number, directory: Directory): ExplainTarget {
  for (const { name, ports } of directory.services.values())
    for (const port of ports) if (port.nodePort === nodePort) return { name, port: port.port };
  throw new AdminError(status.NOT_FOUND, `no Service has node port ${nodePort}`);
}

function byAddress(target: EndpointTarget, directory: Directory): ExplainTarget {
  const atAddress = [...directory.services.values()].filter((service) => addressesOf(service).includes(target.ip));
  const found = atAddress.find(({ ports }) => target.port === null || ports.some(({ port }) => port === target.port));
  if (found) return { name: found.name, port: target.port };
  const others = atAddress.map(({ name, ports }) => `${name} (${ports.map(({ port }) => port).join(', ')})`);
  throw new AdminError(
    status.NOT_FOUND,
    others.length > 0
      ? `no Service has port ${target.port} at ${target.ip}; there is ${others.join(', ')}`
      : `no Service has the address ${formatEndpointTarget(target)}; octoplane status shows what was refused`,
  );
}

const addressesOf = ({ clusterIps, externalIps, loadBalancerIps }: Service): readonly string[] => [
  ...clusterIps,
  ...externalIps,
  ...loadBalancerIps,
];
