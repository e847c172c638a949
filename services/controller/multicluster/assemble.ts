import type { ServiceName } from '@octoplane/model/keys.ts';
import type { Logger } from 'pino';
import { AddressRange } from '../allocate/address-range.ts';
import { Allocator } from '../allocate/allocator.ts';
import { AllocationBook } from '../allocate/book.ts';
import type { ControllerOptions } from '../options.ts';
import { ClusterState } from '../state/cluster-state.ts';
import { ClusterSet } from './cluster-set.ts';
import { ClustersetAddresses } from './clusterset-addresses.ts';
import { clustersetSource } from './imports.ts';

export interface Assembled {
  readonly clusterSet: ClusterSet;
  /** Resolves when the books on disk have everything. */
  flushed(): Promise<void>;
}

/** A state for every source, and the clusterset over them; with the books that were kept of what was given out. */
export async function assembleClusters(
  options: Pick<ControllerOptions, 'sources' | 'serviceCidrs' | 'clustersetCidrs' | 'stateDir'>,
  context: {
    readonly logger: Logger;
    /** Some cluster can be written to. */
    readonly recorded: boolean;
    readonly onImports: (names: ReadonlySet<ServiceName>) => void;
  },
): Promise<Assembled> {
  const { sources, serviceCidrs, clustersetCidrs = [], stateDir } = options;
  const isOne = sources.length === 1;
  const books: AllocationBook[] = [];
  const openBook = async (name: string | null): Promise<AllocationBook | null> => {
    if (stateDir === null) return null;
    const book = await AllocationBook.open(stateDir, context.logger, name);
    books.push(book);
    return book;
  };
  const clusters: { readonly name: string; readonly state: ClusterState }[] = [];
  for (const [i, { name }] of sources.entries()) {
    const book = await openBook(i === 0 ? null : name);
    const state = new ClusterState({
      sources: isOne ? [name] : [name, clustersetSource],
      allocator: new Allocator({ serviceCidrs, allocations: book?.allocations ?? new Map() }),
      onAllocated: (all) => book?.save(all),
    });
    clusters.push({ name, state });
  }
  const book = isOne ? null : await openBook(clustersetSource);
  const ranges = clustersetCidrs.map((cidr) => new AddressRange(cidr));
  const addresses = new ClustersetAddresses({
    allocator: new Allocator({ serviceCidrs: clustersetCidrs, allocations: book?.allocations ?? new Map() }),
    includes: (ip) => ranges.some((range) => range.includes(ip)),
    recorded: context.recorded,
    isFree: (claim, except) => clusters.every(({ state }) => state.isFree(claim, except)),
    onAllocated: (all) => book?.save(all),
  });
  return {
    clusterSet: new ClusterSet({ clusters, addresses: isOne ? null : addresses, onImports: context.onImports }),
    async flushed() {
      await Promise.all(books.map((each) => each.flushed()));
    },
  };
}
