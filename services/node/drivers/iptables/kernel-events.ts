import { eachAttribute, flags, type Message, MessageWriter, textOf } from '../../netlink/message.ts';
import { NetlinkSocket, protocols } from '../../netlink/socket.ts';
import { tables } from './frame.ts';
import { prefix } from './names.ts';

/** include/uapi/linux/netfilter/nfnetlink.h and nf_tables.h */
const NFNLGRP_NFTABLES = 7;
const types = {
  deleteTable: 0x0a02,
  newChain: 0x0a03,
  deleteRule: 0x0a08,
  newGeneration: 0x0a0f,
  getGeneration: 0x0a10,
};
const NFTA_TABLE_NAME = 1;
const NFTA_GEN_ID = 1;
/** struct nfgenmsg: any family, version, resource id. */
const header = Uint8Array.of(0, 0, 0, 0);

/** Processes whose transactions are remembered as ours. Notifications come while they run, so few are needed. */
const remembered = 64;

/**
 * What nf_tables tells about others who change what is ours: the nft flavour's rules live there. The legacy flavour has nothing
 * like it; there, drift is found when the reconciler dumps at its sync period.
 */
export class KernelEvents implements Disposable {
  readonly #socket = NetlinkSocket.open(protocols.netfilter);
  readonly #own: number[] = [];
  #listening: NetlinkSocket | null = null;
  #disturbed: string | null = null;

  /** A process of ours is about to change rules: its netlink port is its process id. */
  own(pid: number): void {
    this.#own.push(pid);
    if (this.#own.length > remembered) this.#own.shift();
  }

  /** Counts the transactions of everybody in this network namespace. */
  generation(): number {
    const writer = new MessageWriter(64);
    writer.begin(types.getGeneration, flags.request, this.#socket.nextSequence());
    writer.raw(header);
    writer.end();
    let generation = 0;
    const [refusal] = this.#socket.exchange(writer.bytes, ({ body }) => {
      eachAttribute(body, header.length, body.length, (type, start) => {
        if (type === NFTA_GEN_ID) generation = body.readUInt32BE(start);
      });
    });
    if (refusal) throw refusal;
    return generation;
  }

  watch(onDisturbed: (what: string) => void, signal: AbortSignal): void {
    if (signal.aborted || this.#listening) return;
    const socket = NetlinkSocket.open(protocols.netfilter);
    this.#listening = socket;
    signal.addEventListener('abort', () => this.#stop(), { once: true });
    const handlers = {
      onMessage: (message: Message) => this.#take(message, onDisturbed),
      onLost: () => onDisturbed('the kernel made more changes than could be followed'),
    };
    socket.subscribe([NFNLGRP_NFTABLES], handlers, signal);
  }

  /** Does not listen meanwhile: a hundred thousand rules of our own are as many announcements. */
  async aside(action: () => Promise<void>): Promise<void> {
    const socket = this.#listening;
    socket?.leave(NFNLGRP_NFTABLES);
    try {
      await action();
    } finally {
      if (socket !== null && socket === this.#listening) socket.join(NFNLGRP_NFTABLES);
    }
  }

  [Symbol.dispose](): void {
    this.#stop();
    this.#socket[Symbol.dispose]();
  }

  #stop(): void {
    this.#listening?.[Symbol.dispose]();
    this.#listening = null;
  }

  /** A transaction is announced as its changes and then the new generation: one call for all of it. */
  #take(message: Message, onDisturbed: (what: string) => void): void {
    if (message.type === types.newGeneration) {
      const what = this.#disturbed;
      this.#disturbed = null;
      if (what !== null) onDisturbed(what);
    } else if (!this.#own.includes(message.port)) {
      this.#disturbed ??= disturbance(message);
    }
  }
}

/** Whatever has to do with our chains names one: the chain itself, the chain of a rule, or where a rule leads. */
function disturbance({ type, body }: Message): string | null {
  if (type === types.deleteTable) {
    const table = tableName(body);
    return tables.some((ours) => ours === table) ? `the table ${table} was deleted` : null;
  }
  if (type < types.newChain || type > types.deleteRule || !body.includes(prefix)) return null;
  return `rules or chains of ours in the table ${tableName(body)} were changed`;
}

function tableName(body: Buffer): string {
  let name = '';
  eachAttribute(body, header.length, body.length, (type, start, end) => {
    if (type === NFTA_TABLE_NAME) name = textOf(body, start, end);
  });
  return name;
}
