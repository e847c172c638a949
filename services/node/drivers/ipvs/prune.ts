import type { Ip } from '@octoplane/model/address.ts';
import { elementText, type Layout, type PlannedElement } from './layout.ts';
import { inSet } from './programmer.ts';
import type { FoundService } from './protocol.ts';
import { idText } from './virtual-service.ts';

/** What is there against what should be; pure. */
export interface Surplus {
  readonly missing: readonly PlannedElement[];
  readonly extra: readonly PlannedElement[];
  readonly services: readonly FoundService[];
}

/** `addresses`: every service address, with whether it answers a ping. */
export function surplusOf(
  layouts: Iterable<Layout>,
  addresses: Iterable<readonly [Ip, boolean]>,
  found: {
    readonly elements: ReadonlyMap<string, PlannedElement>;
    readonly services: ReadonlyMap<string, FoundService>;
  },
): Surplus {
  const elements = new Map<string, PlannedElement>();
  const services = new Set<string>();
  for (const layout of layouts) {
    for (const [text, planned] of layout.elements) elements.set(text, planned);
    for (const text of layout.services.keys()) services.add(text);
  }
  for (const [ip, pingable] of addresses) {
    for (const planned of pingable ? [inSet('address', ip), inSet('ping', ip)] : [inSet('address', ip)])
      elements.set(elementText(planned), planned);
  }
  return {
    missing: [...elements]
      .filter(([text, planned]) => !same(found.elements.get(text), planned))
      .map(([, each]) => each),
    extra: [...found.elements].filter(([text]) => !elements.has(text)).map(([, each]) => each),
    services: [...found.services.values()].filter(({ id }) => !services.has(idText(id))),
  };
}

const same = (a: PlannedElement | undefined, b: PlannedElement): boolean =>
  a !== undefined && a.element.comment === b.element.comment && (a.element.mark ?? 0) === (b.element.mark ?? 0);
