import { ListNodesResponse, type NodeStatus } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { Command } from 'commander';
import { ask } from '../client.ts';
import { duration, orDash, sequence, since } from '../format.ts';
import { stateText } from '../node-text.ts';
import { table } from '../table.ts';
import { present, type ViewFlags, withViewFlags } from '../view.ts';

export const nodesCommand = (): Command =>
  withViewFlags(
    new Command('nodes')
      .description('what each node has in its kernel, and how far behind it is')
      .argument('[selector...]', 'names, or zone=ZONE, driver=NAME, state=current|late|refusing|disconnected'),
  )
    .addHelpText(
      'after',
      '\nExamples:\n  octoplane nodes\n  octoplane nodes zone=a state=late -o wide\n  octoplane nodes --watch',
    )
    .action((selectors: readonly string[], flags: ViewFlags) =>
      present(flags, {
        ask: (client) => ask<ListNodesResponse>((...call) => client.listNodes({ selectors }, ...call)),
        toJson: ListNodesResponse.toJSON,
        asTable: ({ nodes }, wide) => nodesTable(nodes, wide),
      }),
    );

const columns = ['NAME', 'STATE', 'ZONE', 'DRIVER', 'VERSION', 'LAG', 'LATENCY', 'LAST ACK'];
const wideColumns = ['RELEASE', 'PEER', 'SENT', 'VALIDATE', 'APPLY', 'READ BACK', 'LAST ERROR'];

function nodesTable(nodes: readonly NodeStatus[], wide: boolean): string {
  if (nodes.length === 0) return 'No node has connected. Start one with: octoplane node --controller HOST:PORT\n';
  const row = (node: NodeStatus) => [...narrowRow(node), ...(wide ? wideRow(node) : [])];
  return table([...columns, ...(wide ? wideColumns : [])], nodes.map(row));
}

const narrowRow = (node: NodeStatus): string[] => [
  node.name,
  stateText(node.state),
  orDash(node.zone),
  orDash(node.driver),
  sequence(node.programmed),
  duration(node.lagUs),
  duration(node.latencyUs),
  since(node.lastAckAtMs),
];

const wideRow = (node: NodeStatus): string[] => [
  orDash(node.release),
  orDash(node.peer),
  `${node.sentBytes} B`,
  duration(node.durations?.validatedUs ?? 0),
  duration(node.durations?.appliedUs ?? 0),
  duration(node.durations?.readBackUs ?? 0),
  orDash(node.lastError),
];
