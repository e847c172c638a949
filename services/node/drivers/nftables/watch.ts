import { eachAttribute, type Message } from '../../netlink/message.ts';
import { NetlinkSocket, protocols } from '../../netlink/socket.ts';
import type { KernelTable } from './kernel.ts';
import { tableName } from './layout.ts';
import { attributes, headerBytes, messageTypes } from './wire.ts';
import { tableOf } from './wire-table.ts';

/** include/uapi/linux/netfilter/nfnetlink.h */
const NFNLGRP_NFTABLES = 7;

/**
 * Tells when somebody else touched our table. The kernel announces every transaction: its changes, then the new generation. Our
 * own are known by the socket that made them; those made through libnftables, whose socket is its own business, by the generation that
 * they led to.
 */
export class TableWatch {
  readonly #kernel: KernelTable;
  readonly #ownGenerations = new Set<number>();
  #socket: NetlinkSocket | null = null;
  #read: () => void = () => undefined;
  #onDisturbed: (what: string) => void = () => undefined;
  #touched: string | null = null;
  #disturbed = true;

  constructor(kernel: KernelTable) {
    this.#kernel = kernel;
  }

  start(onDisturbed: (what: string) => void, signal: AbortSignal): void {
    if (signal.aborted || this.#socket) return;
    const socket = NetlinkSocket.open(protocols.netfilter);
    this.#socket = socket;
    this.#onDisturbed = onDisturbed;
    signal.addEventListener('abort', () => this.stop(), { once: true });
    this.#disturbed = true;
    const handlers = {
      onMessage: (message: Message) => this.#take(message),
      onLost: () => this.#tell('the kernel made more changes than could be followed'),
    };
    this.#read = socket.subscribe([NFNLGRP_NFTABLES], handlers, signal);
  }

  stop(): void {
    this.#socket?.[Symbol.dispose]();
    this.#socket = null;
  }

  /** The table was just read: from here on nobody else has touched it. */
  settled(): void {
    this.#read();
    this.#disturbed = this.#socket === null;
  }

  /** Has nobody else touched the table since? The kernel announces a transaction before it is over, so this misses none. */
  undisturbed(): boolean {
    if (this.#socket === null) return false;
    this.#read();
    return !this.#disturbed;
  }

  /** Runs what makes at most one transaction of ours by another socket. */
  own<T>(action: () => T): T {
    if (this.#socket === null) return action();
    const before = this.#kernel.generation();
    const result = action();
    const after = this.#kernel.generation();
    // More than one: somebody else was there too, and which was whose is not known.
    if (after === before + 1) this.#ownGenerations.add(after);
    this.#read();
    return result;
  }

  /** Does not listen meanwhile: announcing a hundred thousand elements costs more than writing them. */
  async aside(action: () => Promise<void>): Promise<void> {
    this.#socket?.leave(NFNLGRP_NFTABLES);
    this.#disturbed = true;
    try {
      await action();
    } finally {
      this.#socket?.join(NFNLGRP_NFTABLES);
    }
  }

  #take(message: Message): void {
    if (message.type === messageTypes.newGeneration) this.#endTransaction(message);
    else if (message.port !== this.#kernel.port && tableOf(message.body) === tableName) this.#note(message);
  }

  #note(message: Message): void {
    this.#touched ??= message.type === messageTypes.deleteTable ? 'was deleted' : 'was changed';
  }

  #endTransaction(message: Message): void {
    const touched = this.#touched;
    this.#touched = null;
    let generation = 0;
    eachAttribute(message.body, headerBytes, message.body.length, (type, start) => {
      if (type === attributes.generationId) generation = message.body.readUInt32BE(start);
    });
    if (this.#ownGenerations.delete(generation) || touched === null) return;
    this.#tell(`table inet ${tableName} ${touched} by another program`);
  }

  #tell(what: string): void {
    this.#disturbed = true;
    this.#onDisturbed(what);
  }
}
