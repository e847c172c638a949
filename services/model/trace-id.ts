import xxhash from 'xxhash-wasm';

const { h64Raw } = await xxhash();

/** Version of stream.proto, as far as it matters here. */
interface Named {
  readonly epoch: number;
  readonly sequence: number;
}

/**
 * The trace of the change that made a version, as W3C Trace Context writes ids: 32 hexadecimal digits.
 *
 * It follows from the version alone. So every frame names the traces of what it carries without a byte more, a node's log and the
 * controller's have the same id for the same change, and replicas that follow one line of versions add to one trace.
 * As good as random to samplers: it is a hash (XXH64, twice) of epoch and sequence.
 */
export const traceIdOf = (version: Named): string => hashOf(version, seeds.high) + hashOf(version, seeds.low);

/** The span that the whole change is, and the one of its way to the nodes: 16 hexadecimal digits, known to whoever links to them. */
export const rootSpanIdOf = (version: Named): string => hashOf(version, seeds.root);
export const fanOutSpanIdOf = (version: Named): string => hashOf(version, seeds.fanOut);

const seeds = { high: 1n, low: 2n, root: 3n, fanOut: 4n };
const input = new DataView(new ArrayBuffer(16));
const bytes = new Uint8Array(input.buffer);

function hashOf({ epoch, sequence }: Named, seed: bigint): string {
  input.setBigUint64(0, BigInt(epoch));
  input.setBigUint64(8, BigInt(sequence));
  // Zero is no id.
  return (h64Raw(bytes, seed) || 1n).toString(16).padStart(16, '0');
}
