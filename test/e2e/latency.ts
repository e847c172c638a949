import { Metadata } from '@grpc/grpc-js';
import type { ListNodesResponse } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import type { Cluster } from '../support/lab/cluster.ts';

/** How long one change took, by node: from the commit in the controller to the ack after read-back, microseconds. */
export interface ChangeLatency {
  readonly what: string;
  readonly version: number;
  readonly perNode: ReadonlyMap<string, number>;
}

/** Makes a change, waits until every node has it, and asks the controller when each had. */
export async function measureChange(cluster: Cluster, what: string, act: () => void): Promise<ChangeLatency> {
  act();
  const { version } = await cluster.settled();
  const { nodes } = await listNodes(cluster);
  return {
    what,
    version: version?.sequence ?? 0,
    perNode: new Map(nodes.map((node) => [node.name, node.latencyUs])),
  };
}

const listNodes = (cluster: Cluster): Promise<ListNodesResponse> =>
  new Promise((resolve, reject) => {
    cluster.admin.listNodes({ selectors: [] }, new Metadata(), (error, answer) =>
      error ? reject(error) : resolve(answer),
    );
  });
