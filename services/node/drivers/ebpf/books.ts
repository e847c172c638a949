import { randomInt } from 'node:crypto';
import type { ServicePortKey } from '@octoplane/model/keys.ts';
import type { Entry } from '@octoplane/model/rule-set.ts';
import type { DriverOptions } from '../driver.ts';
import { AddressBook } from './addresses.ts';
import type { Capacity } from './capacity.ts';
import { type Block, Slots } from './slots.ts';

/** What lies where in the maps. Built by reading them (read.ts), kept up to date by render.ts. */
export interface Books {
  readonly services: Map<ServicePortKey, Held>;
  /** By frontendId. */
  readonly owners: Map<string, ServicePortKey>;
  readonly addresses: AddressBook;
  readonly slots: Slots;
  /** Hide every client of a cluster IP behind its node (P35). */
  readonly masqueradeAll: boolean;
  nextId: number;
  /** Begins anywhere, so that what a service of an earlier daemon was remembered by is not met again. */
  nextGeneration: number;
  ranges: number;
}

export interface Held {
  /** Never given to another service port, so that affinities and flows of a removed one mean nothing to the next. */
  readonly id: number;
  /** Of the set in the array of backends. */
  readonly start: number;
  /** Of its frontends. */
  readonly generation: number;
  readonly entry: Entry;
}

export type BookOptions = Pick<DriverOptions, 'icmp' | 'masqueradeAll'>;

export const emptyBooks = (capacity: Capacity, options: BookOptions, taken: Iterable<Block> = []): Books => ({
  services: new Map(),
  owners: new Map(),
  addresses: new AddressBook(options.icmp),
  slots: new Slots(capacity.backends, taken),
  masqueradeAll: options.masqueradeAll,
  nextId: 1,
  nextGeneration: randomInt(2 ** 32),
  ranges: 0,
});
