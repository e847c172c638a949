import type { Family, ServicePortKey } from '@octoplane/model/keys.ts';
import { type Affinity, affinityMap, balanceChains, balances, type Chain, leastSize, ruleText } from './chains.ts';
import { type Element, elementText } from './element.ts';
import { tableName } from './layout.ts';

/** One step of a transaction. The order of steps is the order in which the kernel needs them. */
export type Operation =
  | { readonly t: 'add-map'; readonly affinity: Affinity; readonly family: Family }
  /** Makes the chain if it is not there, and gives it these rules in place of those that it has. */
  | { readonly t: 'set-chain'; readonly chain: Chain }
  | { readonly t: 'delete-element'; readonly element: Element; readonly key: ServicePortKey | null }
  | { readonly t: 'add-element'; readonly element: Element; readonly key: ServicePortKey | null }
  | { readonly t: 'delete-chain'; readonly name: string }
  | { readonly t: 'delete-map'; readonly name: string };

/** The smallest balancing chains, to which the frame goes. */
export const entranceOperations = (): Operation[] =>
  balances.flatMap((balance) =>
    balanceChains(balance, leastSize).map((chain): Operation => ({ t: 'set-chain', chain })),
  );

/** Clients that one affinity map remembers; the next one is balanced anew at each connection. */
export const affinityMapSize = 262_144;

/**
 * A transaction as the text that nft(8) would take for it. What is sent to the kernel is the same by netlink (wire.ts);
 * this is for people and for tests.
 */
export function renderText(operations: readonly Operation[]): string {
  return operations.map((operation) => `${operationText(operation)}\n`).join('');
}

function operationText(operation: Operation): string {
  const table = `inet ${tableName}`;
  switch (operation.t) {
    case 'add-map': {
      const { affinity, family } = operation;
      const address = family === 'IPv4' ? 'ipv4_addr' : 'ipv6_addr';
      return (
        `add map ${table} ${affinityMap(affinity, family)} { type ${address} : ${address} . inet_service; ` +
        `size ${affinityMapSize}; flags dynamic,timeout; timeout ${affinity.timeoutSeconds}s; ` +
        `comment "${affinity.owner} ${affinity.list}"; }`
      );
    }
    case 'set-chain': {
      const { name, comment, rules } = operation.chain;
      const head = `add chain ${table} ${name}${comment === null ? '' : ` { comment "${comment}"; }`}`;
      const flush = `flush chain ${table} ${name}`;
      return [head, flush, ...rules.map((rule) => `add rule ${table} ${name} ${ruleText(rule)}`)].join('\n');
    }
    case 'delete-element':
      return `delete element ${table} ${operation.element.set} { ${elementText(operation.element, false)} }`;
    case 'add-element':
      return `add element ${table} ${operation.element.set} { ${elementText(operation.element)} }`;
    case 'delete-chain':
      return `flush chain ${table} ${operation.name}\ndelete chain ${table} ${operation.name}`;
    case 'delete-map':
      return `delete map ${table} ${operation.name}`;
  }
}
