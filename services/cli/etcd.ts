import { type Endpoint, parseEndpoints } from '@octoplane/controller/sources/etcd/endpoints.ts';
import { EtcdError } from '@octoplane/controller/sources/etcd/etcd-error.ts';
import { EtcdStore } from '@octoplane/controller/sources/etcd/etcd-store.ts';
import { EtcdMembers, type EtcdTlsFiles } from '@octoplane/controller/sources/etcd/members.ts';
import type { Cidr } from '@octoplane/model/address.ts';
import type { Kind, ObjectId } from '@octoplane/model/project.ts';
import { type Command, InvalidArgumentError } from 'commander';
import { CliError, usageError } from './errors.ts';
import { flag } from './flags.ts';

export interface EtcdTlsFlags {
  readonly etcdCa?: string;
  readonly etcdCert?: string;
  readonly etcdKey?: string;
}

export interface EtcdFlags extends EtcdTlsFlags {
  readonly etcd: readonly Endpoint[];
}

const defaultUrl = 'http://127.0.0.1:2379';

/** Flags of every verb that goes to etcd. */
export const withEtcdFlags = (command: Command): Command =>
  withEtcdTlsFlags(
    command.addOption(
      flag('--etcd <url>', 'where etcd is; several members with commas between them')
        .default(parseEndpoints(defaultUrl), defaultUrl)
        .argParser(endpoints),
    ),
  );

export const withEtcdTlsFlags = (command: Command): Command =>
  command
    .addOption(
      flag('--etcd-ca <file>', 'authorities of an https etcd; default: those of the machine').helpGroup('etcd:'),
    )
    .addOption(flag('--etcd-cert <file>', 'client certificate for etcd, in PEM').helpGroup('etcd:'))
    .addOption(flag('--etcd-key <file>', 'its private key').helpGroup('etcd:'));

/** @throws CliError for a certificate without its key. */
export function etcdTlsFiles({ etcdCa, etcdCert, etcdKey }: EtcdTlsFlags): EtcdTlsFiles {
  if ((etcdCert === undefined) !== (etcdKey === undefined))
    throw usageError('--etcd-cert and --etcd-key belong together');
  return { ca: etcdCa ?? null, cert: etcdCert ?? null, key: etcdKey ?? null };
}

export const membersOf = (flags: EtcdFlags): EtcdMembers => new EtcdMembers(flags.etcd, etcdTlsFiles(flags));

function endpoints(value: string): readonly Endpoint[] {
  try {
    return parseEndpoints(value);
  } catch (error) {
    throw new InvalidArgumentError(`${error instanceof Error ? error.message : String(error)}.`);
  }
}

/** One piece of work on etcd, which does no harm when it is done twice. */
export async function withStore<T>(
  flags: EtcdFlags,
  serviceCidrs: readonly Cidr[],
  work: (store: EtcdStore, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  try {
    return await membersOf(flags).use((client) =>
      work(new EtcdStore(client, serviceCidrs, Date.now), new AbortController().signal),
    );
  } catch (error) {
    throw error instanceof EtcdError ? cliErrorOf(error) : error;
  }
}

export function cliErrorOf(error: EtcdError): CliError {
  const hint = error.code === 'UNAVAILABLE' ? '; is it running, and is --etcd right?' : '';
  return new CliError(`${error.message}${hint}`, { cause: error });
}

const words: Readonly<Record<string, Kind>> = {
  service: 'Service',
  services: 'Service',
  svc: 'Service',
  endpointslice: 'EndpointSlice',
  endpointslices: 'EndpointSlice',
  node: 'Node',
  nodes: 'Node',
  serviceexport: 'ServiceExport',
  serviceexports: 'ServiceExport',
  serviceimport: 'ServiceImport',
  serviceimports: 'ServiceImport',
};

export function kindOf(word: string): Kind {
  const key = word.toLowerCase();
  const kind = Object.hasOwn(words, key) ? words[key] : undefined;
  if (kind === undefined)
    throw usageError(`"${word}" is no kind; write services, endpointslices, nodes, serviceexports or serviceimports`);
  return kind;
}

/** "web" is of the namespace default, as with kubectl. */
export function idOfArgument(kind: Kind, name: string): ObjectId {
  const parts = name.split('/');
  if (parts.includes('') || parts.length > (kind === 'Node' ? 1 : 2))
    throw usageError(`"${name}" is no name of a ${kind}; write ${kind === 'Node' ? 'NAME' : 'NAMESPACE/NAME'}`);
  return { kind, name: kind === 'Node' || parts.length === 2 ? name : `default/${name}` };
}
