import type { Protocol, ServicePortKey } from '@octoplane/model/keys.ts';
import type { EndpointId } from '@octoplane/model/rule-set.ts';
import { hasOpen, type Layout, type PlannedElement, type PlannedService } from './layout.ts';
import type { VirtualService, VirtualServiceId } from './virtual-service.ts';

/** One entry's layout before and after. */
export interface LayoutChange {
  readonly key: ServicePortKey;
  readonly before: Layout;
  readonly after: Layout;
}

/** What takes the kernel from the layouts before to those after. Pure. */
export interface Plan {
  readonly addElements: readonly PlannedElement[];
  readonly newServices: readonly { readonly key: ServicePortKey; readonly planned: PlannedService }[];
  /** Their scheduler or persistence differs. */
  readonly setServices: readonly VirtualService[];
  /** Of services that are not new. */
  readonly openDestinations: readonly { readonly id: VirtualServiceId; readonly destination: EndpointId }[];
  readonly closeDestinations: readonly Closing[];
  readonly retired: readonly Retirement[];
  readonly removeElements: readonly PlannedElement[];
}

/** A service that takes no new connections any more. */
export interface Retirement {
  readonly id: VirtualServiceId;
  readonly how: Farewell;
}

export interface Closing {
  readonly id: VirtualServiceId;
  readonly destination: EndpointId;
  readonly how: Farewell;
}

/** `drain`: no new connections, and gone with its last one. `now`: flows are cut off, so that the next packet goes elsewhere. */
export type Farewell = 'drain' | 'now';

/**
 * UDP clients never reconnect: a flow that stays with an endpoint that is gone is a black hole (P30). An endpoint that is only
 * draining keeps them.
 */
export const farewellOf = (protocol: Protocol, stillDraining: boolean): Farewell =>
  protocol === 'UDP' && !stillDraining ? 'now' : 'drain';

export function planOf(changes: readonly LayoutChange[]): Plan {
  const plan = {
    addElements: [] as PlannedElement[],
    newServices: [] as { key: ServicePortKey; planned: PlannedService }[],
    setServices: [] as VirtualService[],
    openDestinations: [] as { id: VirtualServiceId; destination: EndpointId }[],
    closeDestinations: [] as Closing[],
    retired: [] as Retirement[],
    removeElements: [] as PlannedElement[],
  };
  // A frontend may pass from one entry to another in the same change set: what one gives up the other keeps.
  const wantedServices = new Set(changes.flatMap(({ after }) => [...after.services.keys()]));
  const wantedElements = new Set(changes.flatMap(({ after }) => [...after.elements.keys()]));

  for (const { key, before, after } of changes) {
    for (const [text, planned] of after.elements) {
      if (!sameElement(before.elements.get(text), planned)) plan.addElements.push(planned);
    }
    // In reverse: who may come in is forgotten after the rule that only those may.
    for (const [text, planned] of [...before.elements].reverse()) {
      if (!wantedElements.has(text)) plan.removeElements.push(planned);
    }
    for (const [text, planned] of after.services) {
      const old = before.services.get(text);
      const wasOpen = old !== undefined && hasOpen(old.destinations);
      // One that took no new connections may have gone with its last old one: it is made anew, or taken over.
      if (hasOpen(planned.destinations) && !wasOpen) plan.newServices.push({ key, planned });
      else if (old) changeService(old, planned, plan);
      if (wasOpen && !hasOpen(planned.destinations)) plan.retired.push({ id: planned.service.id, how: 'drain' });
    }
    for (const [text, { service, protocol }] of before.services)
      if (!wantedServices.has(text)) plan.retired.push({ id: service.id, how: farewellOf(protocol, false) });
  }
  return plan;
}

function changeService(
  old: PlannedService,
  planned: PlannedService,
  plan: {
    setServices: VirtualService[];
    openDestinations: Plan['openDestinations'][number][];
    closeDestinations: Closing[];
  },
): void {
  const { service, protocol } = planned;
  const isAltered =
    service.persistenceSeconds !== old.service.persistenceSeconds || service.scheduler !== old.service.scheduler;
  if (isAltered && hasOpen(planned.destinations)) plan.setServices.push(service);
  if (planned.destinations === old.destinations) return;
  for (const [text, destination] of planned.destinations) {
    const known = old.destinations.get(text);
    if (known?.draining === destination.draining) continue;
    if (destination.draining) plan.closeDestinations.push({ id: service.id, destination, how: 'drain' });
    else plan.openDestinations.push({ id: service.id, destination });
  }
  for (const [text, destination] of old.destinations) {
    if (planned.destinations.has(text)) continue;
    plan.closeDestinations.push({ id: service.id, destination, how: farewellOf(protocol, false) });
  }
}

const sameElement = (a: PlannedElement | undefined, b: PlannedElement): boolean =>
  a !== undefined && a.element.comment === b.element.comment && (a.element.mark ?? 0) === (b.element.mark ?? 0);
