import type { Ip } from '@octoplane/model/address.ts';
import type { ServiceDevice } from './device.ts';
import { destinationText, elementText, hasOpen, type PlannedService } from './layout.ts';
import type { LayoutChange } from './plan.ts';
import type { IpSets, SetElement, SetRequest } from './sets.ts';
import { isAbsentElement } from './sets.ts';
import type { IpvsTable } from './table.ts';
import { describeId, type VirtualServiceId } from './virtual-service.ts';

/** The parts of the kernel that are asked. */
export interface Asked {
  readonly table: Pick<IpvsTable, 'service' | 'destinations'>;
  readonly sets: Pick<IpSets, 'execute' | 'elements'>;
  readonly device: Pick<ServiceDevice, 'index' | 'has'>;
}

/** What in the kernel is not as it should be after the change, of that which the change touched; null: nothing. */
export function mismatchOf({ before, after }: LayoutChange, asked: Asked): string | null {
  for (const [text, planned] of after.services) {
    const old = before.services.get(text);
    const message = old && sameService(old, planned) ? null : serviceMismatch(planned, asked.table);
    if (message !== null) return message;
  }
  for (const [text, { service }] of before.services) {
    if (after.services.has(text)) continue;
    const message = openMismatch(service.id, asked.table);
    if (message !== null) return message;
  }
  return (
    elementMismatch({ before, after }, asked.sets) ?? addressMismatch(before.addresses, after.addresses, asked.device)
  );
}

const sameService = (a: PlannedService, b: PlannedService): boolean =>
  a.service.persistenceSeconds === b.service.persistenceSeconds &&
  a.destinations.size === b.destinations.size &&
  [...b.destinations].every(([text, { draining }]) => a.destinations.get(text)?.draining === draining);

/** Those with connections are still there, and take no new ones. */
const openMismatch = (id: VirtualServiceId, table: Asked['table']): string | null =>
  table.destinations(id).some(({ weight }) => weight !== 0)
    ? `the virtual service for ${describeId(id)} still takes connections`
    : null;

function serviceMismatch({ service, destinations }: PlannedService, table: Asked['table']): string | null {
  if (!hasOpen(destinations)) return openMismatch(service.id, table);
  const found = table.service(service.id);
  const name = `the virtual service for ${describeId(service.id)}`;
  if (!found) return `${name} is missing`;
  if (!found.ours || !found.regular) return `${name} is not as we make them`;
  if (found.scheduler !== service.scheduler) return `${name} has the scheduler ${found.scheduler}`;
  if (found.persistenceSeconds !== service.persistenceSeconds)
    return `${name} keeps clients for ${found.persistenceSeconds} s instead of ${service.persistenceSeconds} s`;
  const weights = new Map(table.destinations(service.id).map((each) => [destinationText(each), each.weight]));
  for (const [text, { ip, port, draining }] of destinations) {
    const weight = weights.get(text) ?? 0;
    if (weight !== (draining ? 0 : 1)) return `endpoint ${ip} port ${port} of ${name} has weight ${weight}`;
    weights.delete(text);
  }
  for (const [text, weight] of weights)
    if (weight !== 0) return `endpoint ${text.replace(' ', ' port ')} of ${name} is still there`;
  return null;
}

function elementMismatch(
  { before, after }: Pick<LayoutChange, 'before' | 'after'>,
  sets: Asked['sets'],
): string | null {
  const expectedThere: SetRequest[] = [];
  const expectedGone: SetRequest[] = [];
  for (const [text, planned] of after.elements)
    if (before.elements.get(text)?.element.comment !== planned.element.comment)
      expectedThere.push({ t: 'test', ...planned });
  for (const [text, planned] of before.elements)
    if (!after.elements.has(text)) expectedGone.push({ t: 'test', ...planned });
  const renamed = expectedThere.find(
    (request) =>
      before.elements.has(elementText(request)) && listed(request, sets)?.comment !== request.element.comment,
  );
  if (renamed) return `${renamed.element.ip} belongs to another in the set ${renamed.set.name}`;
  const [missing] = sets.execute(expectedThere);
  if (missing) return `${missing.request.element.ip} is missing in the set ${missing.request.set.name}`;
  const gone = expectedGone.filter((request) => !isHostNetwork(request));
  const absent = new Set(
    sets
      .execute(gone)
      .filter(({ error }) => isAbsentElement(error) || error.code === 'ENOENT')
      .map(({ request }) => request),
  );
  const present =
    gone.find((request) => !absent.has(request)) ??
    expectedGone.find((request) => isHostNetwork(request) && listed(request, sets));
  return present ? `${present.element.ip} is still in the set ${present.set.name}` : null;
}

/** A test for a network of one address finds every network around it. */
const isHostNetwork = ({ element: { net, ip } }: SetRequest): boolean =>
  net !== undefined && net.length === (ip.includes(':') ? 128 : 32);

/** By a look at the whole set: the kernel gives no single element with its comment. Only for what changes seldom. */
function listed(request: SetRequest, sets: Pick<IpSets, 'elements'>): SetElement | undefined {
  const wanted = elementText(request);
  return sets.elements(request.set)?.find((element) => elementText({ set: request.set, element }) === wanted);
}

function addressMismatch(
  before: ReadonlyMap<Ip, boolean>,
  after: ReadonlyMap<Ip, boolean>,
  device: Asked['device'],
): string | null {
  const added = [...after.keys()].filter((ip) => !before.has(ip));
  if (added.length === 0) return null;
  const index = device.index();
  const missing = added.find((ip) => !device.has(ip, index));
  return missing === undefined ? null : `${missing} is not an address of this node`;
}
