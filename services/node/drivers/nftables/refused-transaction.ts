import type { NetlinkError } from '../../netlink/errors.ts';
import type { Operation } from './operation.ts';

/** A transaction that the kernel refused; nothing of it is in effect. */
export class TransactionError extends Error {
  override readonly name = 'TransactionError';
  /** Each refusal with the operation that it is about, if that could be told. */
  readonly refusals: readonly { readonly error: NetlinkError; readonly operation: Operation | null }[];
  constructor(refusals: readonly { readonly error: NetlinkError; readonly operation: Operation | null }[]) {
    const [first] = refusals;
    super(`nf_tables refused a transaction: ${first?.error.message ?? 'no reason given'}`, { cause: first?.error });
    this.refusals = refusals;
  }

  get code(): string {
    return this.refusals[0]?.error.code ?? '';
  }
}

/** Which operation a refusal is about: by the message's sequence number and the place of the attribute in it. */
export class Places {
  readonly #bySequence = new Map<number, { readonly offset: number; readonly operation: Operation }[]>();

  add(sequence: number, offset: number, operation: Operation): void {
    const places = this.#bySequence.get(sequence);
    if (places) places.push({ offset, operation });
    else this.#bySequence.set(sequence, [{ offset, operation }]);
  }

  find(error: NetlinkError): Operation | null {
    const places = this.#bySequence.get(error.sequence) ?? [];
    if (places.length === 1 || error.offset < 0) return places.length === 1 ? (places[0]?.operation ?? null) : null;
    return places.findLast(({ offset }) => offset <= error.offset)?.operation ?? null;
  }
}
