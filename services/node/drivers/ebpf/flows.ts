import { flowBytes, flowFlags, idleSeconds, tupleBytes } from './layout.ts';
import { KernelMap } from './maps.ts';
import type { LoadedObject } from './object.ts';

/** Connections that the packet programs have translated (flows.h). */
export class Flows {
  readonly #map: KernelMap;

  constructor(packets: LoadedObject) {
    this.#map = new KernelMap('flows', packets.mapFd('flows'), { keyBytes: tupleBytes, valueBytes: flowBytes });
  }

  /** Is there one that has not ended, nor been idle for so long that it may be forgotten? `nowNs`: on CLOCK_MONOTONIC. */
  anyAlive(nowNs: bigint): boolean {
    for (const { keys, values, count } of this.#map.chunks())
      for (let i = 0; i < count; i++) {
        const key = keys.subarray(i * tupleBytes, (i + 1) * tupleBytes);
        if (this.#isAlive(key, values.subarray(i * flowBytes, (i + 1) * flowBytes), nowNs)) return true;
      }
    return false;
  }

  #isAlive(key: Buffer, flow: Buffer, nowNs: bigint): boolean {
    const idle = (nowNs - flow.readBigUInt64LE(0)) / 1_000_000_000n;
    if (key[36] === udp) return idle < idleSeconds.UDP;
    if (idle < idleSeconds.closing) return true;
    if (idle >= idleSeconds.TCP || isClosing(flow)) return false;
    // Either end has closed its direction in the element of its own packets.
    const partner = Buffer.alloc(flowBytes);
    return !(this.#map.read(partnerKey(key, flow), partner) && isClosing(partner));
  }
}

const udp = 17;
const isClosing = (flow: Buffer): boolean => (flow.readUInt32LE(48) & flowFlags.closing) !== 0;

/** As partner_key in flows.h. */
function partnerKey(key: Buffer, flow: Buffer): Buffer {
  const partner = Buffer.from(key);
  flow.copy(partner, 0, 24, 40);
  flow.copy(partner, 16, 8, 24);
  flow.copy(partner, 32, 42, 44);
  flow.copy(partner, 34, 40, 42);
  return partner;
}
