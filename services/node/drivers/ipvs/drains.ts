import type { TableRequest } from './table.ts';
import { type BusyDestination, idText, type VirtualServiceId } from './virtual-service.ts';

export interface Draining {
  readonly id: VirtualServiceId;
  /** The service itself goes when its last destination has gone. */
  readonly whole: boolean;
}

/**
 * Virtual services with destinations that get no new connections and stay until their last one has ended: the kernel drops
 * every packet to a destination that was removed, where other datapaths let connections end in peace.
 */
export class Drains {
  readonly #services = new Map<string, Draining>();

  get size(): number {
    return this.#services.size;
  }

  [Symbol.iterator](): IterableIterator<Draining> {
    return this.#services.values();
  }

  add(id: VirtualServiceId, whole: boolean): void {
    this.#services.set(idText(id), { id, whole });
  }

  has(id: VirtualServiceId): boolean {
    return this.#services.has(idText(id));
  }

  /** It is wanted again, or gone. */
  remove(id: VirtualServiceId): void {
    this.#services.delete(idText(id));
  }

  clear(): void {
    this.#services.clear();
  }
}

/**
 * Removes what has come to its end among the destinations of one service. `isOver`: nothing is draining any more; of a service
 * that was to go as a whole, nothing is left.
 */
export function endOf(
  { id, whole }: Draining,
  destinations: readonly BusyDestination[],
): { readonly requests: readonly TableRequest[]; readonly isOver: boolean } {
  const closed = destinations.filter(({ weight }) => weight === 0);
  const idle = closed.filter(
    ({ activeConnections, inactiveConnections }) => activeConnections + inactiveConnections === 0,
  );
  if (whole && idle.length === destinations.length) return { requests: [{ t: 'delete-service', id }], isOver: true };
  return {
    requests: idle.map((destination) => ({ t: 'delete-destination', id, destination })),
    isOver: !whole && idle.length === closed.length,
  };
}
