import { type Endpoint, parseEndpoints } from '@octoplane/controller/sources/etcd/endpoints.ts';
import { EtcdClient } from '@octoplane/controller/sources/etcd/etcd-client.ts';
import { EtcdError } from '@octoplane/controller/sources/etcd/etcd-error.ts';
import { EtcdStore } from '@octoplane/controller/sources/etcd/etcd-store.ts';
import type { Cidr } from '@octoplane/model/address.ts';
import type { Kind, ObjectId } from '@octoplane/model/project.ts';
import { type Command, InvalidArgumentError } from 'commander';
import { CliError, usageError } from './errors.ts';
import { flag } from './flags.ts';

export interface EtcdFlags {
  readonly etcd: readonly Endpoint[];
}

const defaultUrl = 'http://127.0.0.1:2379';

/** Flags of every verb that goes to etcd. */
export const withEtcdFlags = (command: Command): Command =>
  command.addOption(
    flag('--etcd <url>', 'where etcd is; several members with commas between them')
      .default(parseEndpoints(defaultUrl), defaultUrl)
      .argParser(endpoints),
  );

function endpoints(value: string): readonly Endpoint[] {
  try {
    return parseEndpoints(value);
  } catch (error) {
    throw new InvalidArgumentError(`${error instanceof Error ? error.message : String(error)}.`);
  }
}

/** One piece of work on etcd. What does no harm when done twice is tried on each member in turn until one answers. */
export async function withStore<T>(
  members: readonly Endpoint[],
  serviceCidrs: readonly Cidr[],
  work: (store: EtcdStore, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  let failure: unknown = usageError('--etcd names no member; write --etcd http://HOST:2379');
  for (const member of members) {
    const client = new EtcdClient(member);
    try {
      return await work(new EtcdStore(client, serviceCidrs, Date.now), new AbortController().signal);
    } catch (error) {
      if (!(error instanceof EtcdError)) throw error;
      const hint = error.code === 'UNAVAILABLE' ? '; is it running, and is --etcd right?' : '';
      failure = new CliError(`${error.message}${hint}`, { cause: error });
      if (error.code !== 'UNAVAILABLE') throw failure;
    } finally {
      client.close();
    }
  }
  throw failure;
}

const words: Readonly<Record<string, Kind>> = {
  service: 'Service',
  services: 'Service',
  svc: 'Service',
  endpointslice: 'EndpointSlice',
  endpointslices: 'EndpointSlice',
  node: 'Node',
  nodes: 'Node',
};

export function kindOf(word: string): Kind {
  const key = word.toLowerCase();
  const kind = Object.hasOwn(words, key) ? words[key] : undefined;
  if (kind === undefined) throw usageError(`"${word}" is no kind; write services, endpointslices or nodes`);
  return kind;
}

/** "web" is of the namespace default, as with kubectl. */
export function idOfArgument(kind: Kind, name: string): ObjectId {
  const parts = name.split('/');
  if (parts.includes('') || parts.length > (kind === 'Node' ? 1 : 2))
    throw usageError(`"${name}" is no name of a ${kind}; write ${kind === 'Node' ? 'NAME' : 'NAMESPACE/NAME'}`);
  return { kind, name: kind === 'Node' || parts.length === 2 ? name : `default/${name}` };
}
