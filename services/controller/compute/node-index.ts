import type { NodeName, ServiceName } from '@octoplane/model/keys.ts';

const none: ReadonlySet<ServiceName> = new Set();

/** From a node to the Services that may have an entry of its own there: what to compute when a node comes or moves. */
export class NodeIndex {
  readonly #services = new Map<NodeName, Set<ServiceName>>();

  servicesOf(node: NodeName): ReadonlySet<ServiceName> {
    return this.#services.get(node) ?? none;
  }

  replace(service: ServiceName, before: ReadonlySet<NodeName>, after: ReadonlySet<NodeName>): void {
    for (const node of before) {
      if (after.has(node)) continue;
      const services = this.#services.get(node);
      services?.delete(service);
      if (services?.size === 0) this.#services.delete(node);
    }
    for (const node of after) {
      if (before.has(node)) continue;
      const services = this.#services.get(node);
      if (services) services.add(service);
      else this.#services.set(node, new Set([service]));
    }
  }
}
