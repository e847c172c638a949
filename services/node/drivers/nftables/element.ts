import { layoutOf, type SetLayout } from './layout.ts';

/** A verdict in nft's words: "goto endpoints-3", "jump x", "drop", "return". */
export type Verdict = string;

/** An element of a set or map of our table. */
export interface Element {
  readonly set: string;
  /** Per field of the layout: addresses and ranges as text, protocols by name ("tcp"), ports and indexes as numbers. */
  readonly key: readonly (string | number)[];
  readonly value: Verdict | readonly (string | number)[] | null;
  readonly comment: string | null;
}

/** Two elements with the same id cannot be in the kernel at once. */
export const elementId = (element: Element): string => `${element.set} ${element.key.join(' . ')}`;

export function elementsEqual(a: Element, b: Element): boolean {
  return a.comment === b.comment && valueText(a) === valueText(b);
}

/** As in the braces of `add element`; for `delete element` without the value. */
export function elementText(element: Element, withValue = true): string {
  const key = element.key.join(' . ');
  if (!withValue) return key;
  const comment = element.comment === null ? '' : ` comment "${element.comment}"`;
  const value = valueText(element);
  return value === '' ? `${key}${comment}` : `${key}${comment} : ${value}`;
}

export function valueText(element: Element): string {
  const { value } = element;
  return value === null ? '' : typeof value === 'string' ? value : value.join(' . ');
}

/** The chain that an element keeps alive, or null. */
export function chainOf(element: Element): string | null {
  if (typeof element.value !== 'string') return null;
  const space = element.value.indexOf(' ');
  return space < 0 ? null : element.value.slice(space + 1);
}

export const layoutOfElement = (element: Element): SetLayout => layoutOf(element.set);
