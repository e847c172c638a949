import { familyOf, type Ip } from '@octoplane/model/address.ts';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import { DriverError, type Refusal } from '../driver.ts';
import { AddressBook } from './addresses.ts';
import type { ServiceDevice } from './device.ts';
import { Drains, endOf } from './drains.ts';
import { destinationText, type PlannedElement, type PlannedService } from './layout.ts';
import { type Closing, farewellOf, type LayoutChange, planOf, type Retirement } from './plan.ts';
import { setSpec } from './set-names.ts';
import type { IpSets } from './sets.ts';
import { type IpvsTable, isAbsent, type TableRequest } from './table.ts';
import { describeId, idText, type VirtualServiceId } from './virtual-service.ts';

/**
 * Brings layouts about in the kernel, which has no transactions here, in an order that fails no connection:
 *   1. elements of the sets, so that a frontend's rules wait for it;
 *   2. services and destinations that are new;
 *   3. addresses, with which the first packet comes;
 *   4. destinations and services that go; 5. their addresses; 6. their elements.
 * A frontend that somebody else holds is found in step 2, and what was done until then is undone.
 */
export class Programmer {
  readonly addresses = new AddressBook();
  readonly drains = new Drains();
  readonly #table: IpvsTable;
  readonly #sets: IpSets;
  readonly #device: ServiceDevice;

  constructor(table: IpvsTable, sets: IpSets, device: ServiceDevice) {
    this.#table = table;
    this.#sets = sets;
    this.#device = device;
  }

  /** @throws DriverError */
  program(changes: readonly LayoutChange[]): void {
    const plan = planOf(changes);
    this.elements('add', plan.addElements);
    const made = this.#makeServices(plan.newServices, plan.addElements);
    this.#execute(plan.setServices.map((service) => ({ t: 'set-service', service })));
    this.#openDestinations(plan.openDestinations);
    for (const { key, before, after } of changes) {
      for (const ip of before.addresses.keys()) if (!after.addresses.has(ip)) this.addresses.disown(key, ip);
      for (const [ip, usable] of after.addresses) this.addresses.own(key, ip, usable);
    }
    this.acquireAddresses();
    this.#close([...plan.closeDestinations, ...made.superfluous]);
    this.retire(plan.retired);
    this.releaseAddresses();
    this.elements('remove', plan.removeElements);
  }

  elements(what: 'add' | 'remove', elements: readonly PlannedElement[]): void {
    const refusals = this.#sets.execute(elements.map(({ set, element }) => ({ t: what, set, element })));
    const [refusal] = refusals;
    if (!refusal || (what === 'remove' && refusals.every(({ error }) => error.code === 'ENOENT'))) return;
    const { element, set } = refusal.request;
    throw failed(`${what} ${element.ip} ${element.comment} in the set ${set.name}`, refusal.error);
  }

  /**
   * Services that are to be there no more: at once without connections, otherwise with their last one. Returns how many still
   * took new connections.
   */
  retire(services: readonly Retirement[]): number {
    const atOnce: TableRequest[] = [];
    let open = 0;
    for (const { id, how } of services) {
      if (how === 'drain') open += this.#retireSlowly(id) ? 1 : 0;
      else atOnce.push({ t: 'delete-service', id });
    }
    this.#execute(atOnce);
    for (const request of atOnce) if ('id' in request) this.#forget(request.id);
    return open + atOnce.length;
  }

  #retireSlowly(id: VirtualServiceId): boolean {
    const open = this.#table.destinations(id).filter(({ weight }) => weight !== 0);
    this.#execute(
      open.map((destination) => ({ t: 'set-destination', id, destination: { ...destination, weight: 0 } })),
    );
    this.linger(id);
    this.#sweepOne(id, true);
    return open.length > 0;
  }

  /** A service that was found in the kernel and is not known to be wanted keeps its address until it is decided what becomes of it. */
  linger(id: VirtualServiceId): void {
    this.drains.add(id, true);
    if (id.t === 'address' && this.addresses.isKnown(id.ip)) this.addresses.own(ownerOf(id), id.ip, false);
  }

  /** Removes destinations and services whose last connection has ended. Returns how many are still waited for. */
  sweep(): number {
    for (const { id, whole } of [...this.drains]) this.#sweepOne(id, whole);
    this.releaseAddresses();
    return this.drains.size;
  }

  /** Returns how many were missing. */
  acquireAddresses(): number {
    const { added, pingable } = this.addresses.acquisitions();
    if (added.length + pingable.length === 0) return 0;
    this.elements('add', [...added.map((ip) => inSet('address', ip)), ...pingable.map((ip) => inSet('ping', ip))]);
    const refusal = this.#device.change('add', added, this.#device.index());
    if (refusal) throw failed('make service addresses local', refusal);
    return added.length + pingable.length;
  }

  /** Returns how many were there for nobody. */
  releaseAddresses(): number {
    const { removed, unpingable } = this.addresses.releases();
    if (removed.length + unpingable.length === 0) return 0;
    const refusal = this.#device.change('remove', removed, this.#device.index());
    if (refusal) throw failed('give service addresses up', refusal);
    this.elements('remove', [
      ...unpingable.map((ip) => inSet('ping', ip)),
      ...removed.map((ip) => inSet('address', ip)),
    ]);
    return removed.length + unpingable.length;
  }

  /** One that is there already is taken over: it lingers with its last connections, or a daemon before this one made it. */
  #makeServices(
    services: readonly { readonly key: ServicePortKey; readonly planned: PlannedService }[],
    added: readonly PlannedElement[],
  ): { readonly superfluous: readonly Closing[] } {
    if (services.length === 0) return { superfluous: [] };
    const byId = new Map(services.map((each) => [idText(each.planned.service.id), each]));
    const refusals = this.#table.execute(
      services.map(({ planned }) => ({ t: 'new-service', service: planned.service })),
    );
    const there = new Map<string, PlannedService>();
    const foreign: Refusal[] = [];
    for (const { request, error } of refusals) {
      if (!('service' in request)) continue;
      const text = idText(request.service.id);
      const wanted = byId.get(text);
      if (error.code !== 'EEXIST' || !wanted) {
        throw failed(`add the virtual service for ${describeId(request.service.id)}`, error, wanted?.key);
      }
      if (this.#table.service(request.service.id)?.ours) there.set(text, wanted.planned);
      else foreign.push(takenByOthers(wanted.key, request.service.id));
    }
    const fresh = [...byId].filter(([text]) => !there.has(text)).map(([, { planned }]) => planned);
    if (foreign.length > 0) {
      const taken = new Set(refusals.map(({ request }) => ('service' in request ? idText(request.service.id) : '')));
      const undone = fresh.filter(({ service }) => !taken.has(idText(service.id)));
      this.#execute(undone.map(({ service }) => ({ t: 'delete-service', id: service.id })));
      this.elements('remove', added);
      throw new DriverError('another program has a virtual service where one of ours should be', {
        refusals: foreign,
        // Elements that were there before with another comment may be gone.
        torn: there.size > 0,
      });
    }
    this.#openDestinations(fresh.flatMap(openOnes));
    return { superfluous: [...there.values()].flatMap((planned) => this.#takeOver(planned)) };
  }

  /** Returns the destinations that have to go. */
  #takeOver(planned: PlannedService): Closing[] {
    const { id } = planned.service;
    const found = this.#table.destinations(id);
    this.#execute([{ t: 'set-service', service: planned.service }]);
    this.#openDestinations(openOnes(planned));
    this.#forget(id);
    return found
      .filter((destination) => planned.destinations.get(destinationText(destination))?.draining !== false)
      .map((destination) => {
        const isDraining = planned.destinations.has(destinationText(destination));
        return { id, destination, how: farewellOf(planned.protocol, isDraining) };
      });
  }

  #openDestinations(openings: readonly Pick<Closing, 'id' | 'destination'>[]): void {
    const requests = openings.map(
      ({ id, destination: { ip, port } }): TableRequest => ({
        t: 'new-destination',
        id,
        destination: { ip, port, weight: 1 },
      }),
    );
    const again: TableRequest[] = [];
    for (const { request, error } of this.#table.execute(requests)) {
      if (!('destination' in request)) continue;
      const { id, destination } = request;
      if (error.code !== 'EEXIST') {
        throw failed(`add ${destination.ip} port ${destination.port} to ${describeId(id)}`, error);
      }
      again.push({ t: 'set-destination', id, destination });
    }
    this.#execute(again);
  }

  #close(closings: readonly Closing[]): void {
    if (closings.length === 0) return;
    const drained = new Map<string, VirtualServiceId>();
    const requests = closings.map(({ id, destination: { ip, port }, how }): TableRequest => {
      const destination = { ip, port, weight: 0 };
      if (how === 'now') return { t: 'delete-destination', id, destination };
      drained.set(idText(id), id);
      return { t: 'set-destination', id, destination };
    });
    this.#execute(requests);
    for (const id of drained.values()) {
      this.drains.add(id, false);
      this.#sweepOne(id, false);
    }
  }

  #sweepOne(id: VirtualServiceId, whole: boolean): void {
    const { requests, isOver } = endOf({ id, whole }, this.#table.destinations(id));
    this.#execute(requests);
    if (isOver) this.#forget(id);
  }

  #forget(id: VirtualServiceId): void {
    this.drains.remove(id);
    if (id.t === 'address') this.addresses.disown(ownerOf(id), id.ip);
  }

  /** What is to go and is gone already is no failure. */
  #execute(requests: readonly TableRequest[]): void {
    if (requests.length === 0) return;
    for (const { request, error } of this.#table.execute(requests)) {
      const isClosing =
        request.t.startsWith('delete-') || ('destination' in request && request.destination.weight === 0);
      if (isClosing && isAbsent(error)) continue;
      const id = 'service' in request ? request.service.id : request.id;
      throw failed(`${request.t.replace('-', ' ')} of ${describeId(id)}`, error);
    }
  }
}

const openOnes = ({ service, destinations }: PlannedService) =>
  [...destinations.values()]
    .filter(({ draining }) => !draining)
    .map((destination) => ({ id: service.id, destination }));

/** An address stays for the connections of a service that is going. */
const ownerOf = (id: VirtualServiceId): string => `until the last connection of ${idText(id)}`;

export const inSet = (role: 'address' | 'ping', ip: Ip): PlannedElement => ({
  set: setSpec(role, familyOf(ip)),
  element: { ip, comment: '' },
});

function takenByOthers(key: ServicePortKey, id: VirtualServiceId): Refusal {
  const message = `another program has a virtual service for ${describeId(id)}: remove it (ipvsadm -D), or give the Service another address or port`;
  return { key, reason: 'kernel', message };
}

function failed(what: string, cause: Error, key?: ServicePortKey): DriverError {
  const refusals: Refusal[] = key === undefined ? [] : [{ key, reason: 'kernel', message: cause.message }];
  return new DriverError(`IPVS could not ${what}: ${cause.message}`, { cause, refusals, torn: true });
}
