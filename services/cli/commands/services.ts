import {
  type EndpointStatus,
  ListServicesResponse,
  type ServicePortStatus,
  type ServiceStatus,
} from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { Command } from 'commander';
import { ask } from '../client.ts';
import { CliError } from '../errors.ts';
import { orDash, sequence } from '../format.ts';
import { table } from '../table.ts';
import { present, type ViewFlags, withViewFlags } from '../view.ts';

export const servicesCommand = (): Command =>
  withViewFlags(
    new Command('services')
      .description('Services, their addresses, and on how many nodes their newest version is programmed')
      .argument('[namespace/name]', 'one Service, with its endpoints'),
  )
    .addHelpText('after', '\nExamples:\n  octoplane services\n  octoplane services default/web')
    .action((service: string | undefined, flags: ViewFlags) =>
      present(flags, {
        ask: async (client) => {
          const answer = await ask<ListServicesResponse>((...call) =>
            client.listServices({ service: service ?? '' }, ...call),
          );
          if (service !== undefined && answer.services.length === 0)
            throw new CliError(`there is no Service ${service}; octoplane services lists them`);
          return answer;
        },
        toJson: ListServicesResponse.toJSON,
        asTable: ({ services }, wide) =>
          service === undefined ? servicesTable(services, wide) : services.map(describe).join('\n'),
      }),
    );

function servicesTable(services: readonly ServiceStatus[], wide: boolean): string {
  if (services.length === 0) return 'No Services.\n';
  const header = ['NAMESPACE/NAME', 'TYPE', 'CLUSTER-IP', 'EXTERNAL', 'PORTS', 'READY', 'VERSION', 'PROGRAMMED'];
  return table(
    wide ? [...header, 'SOURCE'] : header,
    services.map((service) => row(service, wide)),
  );
}

const row = (service: ServiceStatus, wide: boolean): string[] => [
  `${service.namespace}/${service.name}`,
  service.type,
  orDash(service.clusterIps.join(',')),
  orDash([...service.loadBalancerIps, ...service.externalIps].join(',')),
  orDash(service.ports.map(portText).join(',')),
  endpointCount(service),
  sequence(service.version),
  `${service.nodesProgrammed}/${service.nodesTotal}`,
  ...(wide ? [service.source] : []),
];

const portText = (port: ServicePortStatus): string =>
  `${port.port}${port.nodePort > 0 ? `:${port.nodePort}` : ''}/${port.protocol}`;

/** Of the port that has the fewest, because that is the one to look at. */
function endpointCount(service: ServiceStatus): string {
  const [worst] = service.ports.toSorted((a, b) => a.endpointsReady - b.endpointsReady);
  return worst ? `${worst.endpointsReady}/${worst.endpointsTotal}` : '-';
}

function describe(service: ServiceStatus): string {
  const lines = [servicesTable([service], true)];
  for (const port of service.ports) {
    lines.push(`${portText(port)}${port.name === '' ? '' : ` (${port.name})`}:`);
    if (port.endpoints.length === 0) lines.push('  no endpoints: connections are rejected\n');
    else lines.push(table(['  ENDPOINT', 'CONDITION', 'NODE', 'ZONE'], port.endpoints.map(endpointRow)));
  }
  return lines.join('\n');
}

const endpointRow = (endpoint: EndpointStatus): string[] => [
  `  ${endpoint.address}`,
  condition(endpoint),
  orDash(endpoint.node),
  orDash(endpoint.zone),
];

function condition({ ready, serving, terminating }: EndpointStatus): string {
  if (terminating) return serving ? 'terminating, serving' : 'terminating';
  return ready ? 'ready' : 'not ready';
}
