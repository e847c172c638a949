import { NetlinkError } from '../../netlink/errors.ts';
import { eachAttribute, flags, headerLength, type Message, MessageWriter } from '../../netlink/message.ts';
import { NetlinkSocket, protocols } from '../../netlink/socket.ts';
import { type Element, elementsEqual } from './element.ts';
import { layoutOf, type SetLayout, tableName } from './layout.ts';
import type { Operation } from './operation.ts';
import { Places, TransactionError } from './refused-transaction.ts';
import { attributes, beginBatch, beginMessage, endBatch, headerBytes, messageTypes } from './wire.ts';
import { writeAffinityMap, writeChain, writeRule } from './wire-chain.ts';
import { beginElements, endElements, readElement, writeElement } from './wire-element.ts';
import { type KernelChain, type KernelSet, readChain, readRule, readSet, tableOf } from './wire-table.ts';

/** An attribute holds less than 64 KiB; the largest element of ours takes under 400 bytes. */
const elementsBytes = 60_000;
/** A transaction of more than a few hundred changes; its buffer is given back. */
const largeBatchBytes = 256 * 1024;
/** Elements asked for in one request: their answers must fit the receive buffer. */
const readAtOnce = 64;

/** Our table in the kernel's words, by netlink. */
export class KernelTable implements Disposable {
  readonly #socket: NetlinkSocket;
  readonly #writer = new MessageWriter();
  #transactions = 0;
  #setId = 1;

  constructor() {
    this.#socket = NetlinkSocket.open(protocols.netfilter);
  }

  get port(): number {
    return this.#socket.port;
  }

  /** Those that took effect. */
  get transactions(): number {
    return this.#transactions;
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
  }

  /** Brings all of the operations about, or none. @throws TransactionError */
  transact(operations: readonly Operation[]): void {
    if (operations.length === 0) return;
    const writer = this.#writer;
    writer.reset();
    beginBatch(writer);
    const places = new Places();
    for (let i = 0; i < operations.length; ) i = this.#writeRun(operations, i, places);
    endBatch(writer);
    const refused = this.#socket.exchange(writer.bytes);
    if (writer.length > largeBatchBytes) writer.shrink();
    if (refused.length > 0) {
      throw new TransactionError(refused.map((error) => ({ error, operation: places.find(error) })));
    }
    this.#transactions++;
  }

  /**
   * Asks for each element by its key, and returns those that are not as given: by index, what is there in its place, null for
   * nothing. Never a dump: one of a hash that is still growing misses elements.
   */
  compare(elements: readonly Element[]): Map<number, Element | null> {
    const differing = new Map<number, Element | null>();
    const bySet = Map.groupBy(elements.keys(), (i) => elements[i]?.set ?? '');
    for (const [set, indexes] of bySet) {
      const layout = layoutOf(set);
      for (let i = 0; i < indexes.length; i += readAtOnce) {
        this.#compareSome(layout, indexes.slice(i, i + readAtOnce), elements, differing);
      }
    }
    return differing;
  }

  /** Every element of a set; `restart` when the kernel's answer was overtaken by a change. */
  dump(set: string, visit: (element: Element | null) => void, restart: () => void): void {
    const layout = layoutOf(set);
    this.#dumpElements(set, layout, visit, restart);
  }

  /** The clients that an affinity map remembers, with their endpoints. */
  dumpAffinity(map: string, visit: (element: Element) => void): void {
    const layout = affinityLayout(map);
    const seen: Element[] = [];
    this.#dumpElements(
      map,
      layout,
      (element) => {
        if (element) seen.push(element);
      },
      () => seen.splice(0),
    );
    for (const element of seen) visit(element);
  }

  /** Forgets clients one by one, since each may have timed out meanwhile. Returns how many were forgotten. */
  forget(map: string, clients: readonly Element[]): number {
    const layout = affinityLayout(map);
    let forgotten = 0;
    for (const client of clients) {
      const writer = this.#writer;
      writer.reset();
      beginBatch(writer);
      const nest = beginElements(writer, messageTypes.deleteElement, 0, map, this.#socket.nextSequence());
      writeElement(writer, client, false, layout);
      endElements(writer, nest);
      endBatch(writer);
      const [refusal] = this.#socket.exchange(writer.bytes);
      if (refusal === undefined) {
        this.#transactions++;
        forgotten++;
      } else if (refusal.code !== 'ENOENT') throw new TransactionError([{ error: refusal, operation: null }]);
    }
    return forgotten;
  }

  exists(): boolean {
    const writer = this.#writer;
    writer.reset();
    beginMessage(writer, messageTypes.getTable, flags.ack, this.#socket.nextSequence());
    writer.text(attributes.table, tableName);
    writer.end();
    const [refusal] = this.#socket.exchange(writer.bytes);
    if (refusal === undefined) return true;
    if (refusal.code === 'ENOENT') return false;
    throw refusal;
  }

  /** Changes with every transaction of anybody in this network namespace. */
  generation(): number {
    const writer = this.#writer;
    writer.reset();
    beginMessage(writer, messageTypes.getGeneration, 0, this.#socket.nextSequence());
    writer.end();
    let generation = 0;
    const [refusal] = this.#socket.exchange(writer.bytes, ({ body }) => {
      eachAttribute(body, headerBytes, body.length, (type, start) => {
        if (type === attributes.generationId) generation = body.readUInt32BE(start);
      });
    });
    if (refusal) throw refusal;
    return generation;
  }

  sets(): KernelSet[] {
    return this.#dumpTable(messageTypes.getSet, readSet);
  }

  chains(): KernelChain[] {
    return this.#dumpTable(messageTypes.getChain, readChain);
  }

  /** The rules of every chain, as bytes that are equal exactly when the rules are. */
  rules(): Map<string, string> {
    const rules = new Map<string, string>();
    for (const { chain, expressions } of this.#dumpTable(messageTypes.getRule, readRule))
      rules.set(chain, `${rules.get(chain) ?? ''}|${expressions}`);
    return rules;
  }

  /** Deletes the whole table. Not an error when it is not there. */
  remove(): void {
    const writer = this.#writer;
    writer.reset();
    beginBatch(writer);
    beginMessage(writer, messageTypes.deleteTable, 0, this.#socket.nextSequence());
    writer.text(attributes.table, tableName);
    writer.end();
    endBatch(writer);
    const [refusal] = this.#socket.exchange(writer.bytes);
    if (refusal === undefined) this.#transactions++;
    else if (refusal.code !== 'ENOENT') throw new TransactionError([{ error: refusal, operation: null }]);
  }

  /** Writes operations from `i` on that fit one message, and returns the index of the next. */
  #writeRun(operations: readonly Operation[], i: number, places: Places): number {
    const operation = operations[i];
    if (operation === undefined) return operations.length;
    if (operation.t === 'add-element' || operation.t === 'delete-element') {
      return this.#writeElements(operations, i, operation.t, operation.element.set, places);
    }
    this.#writeOther(operation, places);
    return i + 1;
  }

  #writeElements(
    operations: readonly Operation[],
    from: number,
    t: 'add-element' | 'delete-element',
    set: string,
    places: Places,
  ): number {
    const writer = this.#writer;
    const adding = t === 'add-element';
    const sequence = this.#socket.nextSequence();
    const type = adding ? messageTypes.newElement : messageTypes.deleteElement;
    const nest = beginElements(writer, type, adding ? flags.create : 0, set, sequence);
    let next = from;
    for (; next < operations.length; next++) {
      const operation = operations[next];
      if (operation === undefined || operation.t !== t || operation.element.set !== set) break;
      if (writer.length - writer.messageStart > elementsBytes) break;
      places.add(sequence, writer.length - writer.messageStart, operation);
      writeElement(writer, operation.element, adding);
    }
    endElements(writer, nest);
    return next;
  }

  #writeOther(operation: Operation, places: Places): void {
    const writer = this.#writer;
    const begin = (type: number, messageFlags = 0): void => {
      const sequence = this.#socket.nextSequence();
      beginMessage(writer, type, messageFlags, sequence);
      places.add(sequence, headerLength, operation);
    };
    switch (operation.t) {
      case 'add-map':
        begin(messageTypes.newSet, flags.create);
        writeAffinityMap(writer, operation.affinity, operation.family, this.#setId++);
        break;
      case 'delete-map':
        begin(messageTypes.deleteSet);
        writer.text(attributes.table, tableName);
        writer.text(attributes.setName, operation.name);
        break;
      case 'delete-chain':
        begin(messageTypes.deleteRule);
        writer.text(attributes.table, tableName);
        writer.text(attributes.ruleChain, operation.name);
        writer.end();
        begin(messageTypes.deleteChain);
        writeChain(writer, operation.name, null);
        break;
      case 'set-chain': {
        const { name, comment, rules } = operation.chain;
        begin(messageTypes.newChain, flags.create);
        writeChain(writer, name, comment);
        writer.end();
        begin(messageTypes.deleteRule);
        writer.text(attributes.table, tableName);
        writer.text(attributes.ruleChain, name);
        for (const rule of rules) {
          writer.end();
          begin(messageTypes.newRule, flags.create | flags.append);
          writeRule(writer, name, rule);
        }
        break;
      }
      case 'add-element':
      case 'delete-element':
        return;
    }
    writer.end();
  }

  /**
   * Answers come in the order of the questions, up to the first element that is not there. The questions carry the values, which the
   * kernel ignores, so that the answers are compared with them byte by byte.
   */
  #compareSome(
    layout: SetLayout,
    indexes: readonly number[],
    elements: readonly Element[],
    differing: Map<number, Element | null>,
  ): void {
    const writer = this.#writer;
    let next = 0;
    while (next < indexes.length) {
      writer.reset();
      const asked = indexes.slice(next);
      const bounds: number[] = [];
      const nest = beginElements(writer, messageTypes.getElement, flags.ack, layout.name, this.#socket.nextSequence());
      for (const i of asked) {
        const element = elements[i];
        bounds.push(writer.length);
        if (element) writeElement(writer, element, true, layout);
      }
      bounds.push(writer.length);
      endElements(writer, nest);
      const question = writer.bytes;
      let answered = 0;
      const [refusal] = this.#socket.exchange(question, ({ body }) => {
        eachElementIn(body, (from, to) => {
          const index = asked[answered] ?? -1;
          const wanted = elements[index];
          // Past the header of the list item.
          const start = (bounds[answered] ?? 0) + 4;
          const end = bounds[answered + 1] ?? start;
          answered++;
          if (!wanted || sameAttributes(question, start, end, body, from, to)) return;
          const found = readElement(body, from, to, layout);
          if (found === null || !elementsEqual(found, wanted)) differing.set(index, found);
        });
      });
      if (refusal === undefined) return;
      if (refusal.code !== 'ENOENT') throw refusal;
      differing.set(asked[answered] ?? -1, null);
      next += answered + 1;
    }
  }

  #dumpElements(set: string, layout: SetLayout, visit: (element: Element | null) => void, restart: () => void): void {
    const writer = this.#writer;
    writer.reset();
    beginMessage(writer, messageTypes.getElement, flags.dump, this.#socket.nextSequence());
    writer.text(attributes.table, tableName);
    writer.text(attributes.elementsSet, set);
    writer.end();
    this.#socket.dump(writer.bytes, (message) => eachElement(message, layout, visit), restart);
  }

  #dumpTable<Item>(type: number, read: (body: Buffer) => Item): Item[] {
    const found: Item[] = [];
    const writer = this.#writer;
    writer.reset();
    beginMessage(writer, type, flags.dump, this.#socket.nextSequence());
    writer.text(attributes.table, tableName);
    writer.end();
    try {
      this.#socket.dump(
        writer.bytes,
        ({ body }) => {
          // Kernels that do not filter answer with every table.
          if (tableOf(body) === tableName) found.push(read(body));
        },
        () => found.splice(0),
      );
    } catch (error) {
      // Those that do filter say that there is no such table: nothing is found.
      if (!(error instanceof NetlinkError && error.code === 'ENOENT')) throw error;
    }
    return found;
  }
}

function eachElement(message: Message, layout: SetLayout, visit: (element: Element | null) => void): void {
  eachElementIn(message.body, (from, to) => visit(readElement(message.body, from, to, layout)));
}

/** Bounds of the attributes of every element in a message. */
function eachElementIn(body: Buffer, visit: (from: number, to: number) => void): void {
  eachAttribute(body, headerBytes, body.length, (type, start, end) => {
    if (type === attributes.elements) eachAttribute(body, start, end, (_, from, to) => visit(from, to));
  });
}

/** Is every attribute of the one among those of the other, with the same bytes? */
function sameAttributes(a: Buffer, start: number, end: number, b: Buffer, from: number, to: number): boolean {
  let same = true;
  eachAttribute(a, start, end, (type, valueStart, valueEnd) => {
    let found = false;
    eachAttribute(b, from, to, (other, otherStart, otherEnd) => {
      if (other === type) found = a.compare(b, otherStart, otherEnd, valueStart, valueEnd) === 0;
    });
    if (!found) same = false;
  });
  return same;
}

function affinityLayout(name: string): SetLayout {
  const ip = name.startsWith('affinity6') ? 'ip6' : 'ip4';
  return { name, key: [ip], value: [ip, 'port'], type: '', interval: false, meaning: '' };
}
