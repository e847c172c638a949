import type { Stored } from '@octoplane/controller/sources/etcd/etcd-store.ts';
import { idOfKey } from '@octoplane/controller/sources/etcd/layout.ts';
import type { ClusterObject, ServicePort } from '@octoplane/model/objects.ts';
import { formatId, type Kind, project } from '@octoplane/model/project.ts';
import { Command } from 'commander';
import { CliError } from '../errors.ts';
import { type EtcdFlags, idOfArgument, kindOf, withEtcdFlags, withStore } from '../etcd.ts';
import { flag, type OutputFormat, outputFormats } from '../flags.ts';
import { orDash } from '../format.ts';
import { show } from '../output.ts';
import { table } from '../table.ts';

interface GetFlags extends EtcdFlags {
  readonly output?: OutputFormat;
}

export const getCommand = (): Command =>
  withEtcdFlags(new Command('get'))
    .description('what is in etcd')
    .argument('<kind>', 'services, endpointslices, nodes, serviceexports or serviceimports')
    .argument('[namespace/name]', 'one of them')
    .addOption(flag('-o, --output <format>', 'instead of a table').choices(outputFormats))
    .addHelpText('after', '\nExamples:\n  octoplane get services\n  octoplane get service default/web -o yaml')
    .action(async (word: string, name: string | undefined, flags: GetFlags) => {
      const kind = kindOf(word);
      const id = name === undefined ? null : idOfArgument(kind, name);
      const stored = await withStore(flags, [], async (store, signal) =>
        id === null ? store.list(kind, signal) : [await store.get(id, signal)].filter((found) => found !== null),
      );
      if (id !== null && stored.length === 0)
        throw new CliError(`there is no ${formatId(id)} in etcd; octoplane get ${word} lists them`);
      const manifests = stored.map(({ manifest }) => manifest);
      const answer = id === null ? { apiVersion: 'v1', kind: 'List', items: manifests } : (manifests[0] ?? {});
      show(answer, flags.output, () => (stored.length === 0 ? `No ${kind}s.\n` : tableOf(kind, stored)));
    });

const headers: Readonly<Record<Kind, readonly string[]>> = {
  Service: ['NAMESPACE/NAME', 'TYPE', 'CLUSTER-IP', 'PORTS'],
  EndpointSlice: ['NAMESPACE/NAME', 'SERVICE', 'PORTS', 'ENDPOINTS'],
  Node: ['NAME', 'ZONE', 'ADDRESSES', 'POD-CIDRS'],
  ServiceExport: ['NAMESPACE/NAME', 'VALID', 'CONFLICT'],
  ServiceImport: ['NAMESPACE/NAME', 'CLUSTERSET-IP'],
};

const tableOf = (kind: Kind, stored: readonly Stored[]): string => table(headers[kind], stored.map(row));

function row({ key, manifest }: Stored): readonly string[] {
  const projection = project(manifest, { revision: '', changedAtUs: null });
  if (projection.t === 'object') return cells(projection.object);
  return [idOfKey(key)?.name ?? key, 'invalid: the controller rejects it, and octoplane status says why'];
}

function cells(object: ClusterObject): readonly string[] {
  switch (object.kind) {
    case 'Service': {
      const { name, type, clusterIps, ports, headless } = object.service;
      return [name, type, headless ? 'None' : orDash(clusterIps.join(',')), orDash(ports.map(portText).join(','))];
    }
    case 'EndpointSlice': {
      const { name, service, ports, endpoints } = object.slice;
      const portList = ports.map(({ port, protocol }) => `${port}/${protocol}`).join(',');
      return [name, service ?? '-', orDash(portList), orDash(endpoints.map(({ ip }) => ip).join(','))];
    }
    case 'Node': {
      const { name, zone, addresses, podCidrs } = object.node;
      const cidrs = podCidrs.map(({ ip, length }) => `${ip}/${length}`).join(',');
      return [name, zone ?? '-', orDash(addresses.join(',')), orDash(cidrs)];
    }
    case 'ServiceExport': {
      const { name, conditions } = object.export;
      const stateOf = (type: string): string => {
        const condition = conditions.find((each) => each.type === type);
        return condition ? `${condition.status} ${condition.reason}` : '-';
      };
      return [name, stateOf('Valid'), stateOf('Conflict')];
    }
    case 'ServiceImport':
      return [object.import.name, orDash(object.import.ips.join(','))];
  }
}

const portText = ({ port, nodePort, protocol }: ServicePort): string =>
  `${port}${nodePort > 0 ? `:${nodePort}` : ''}/${protocol}`;
