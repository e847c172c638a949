import { NetlinkError } from '../../netlink/errors.ts';
import { eachAttribute, flags, headerLength, type Message, MessageWriter, textOf } from '../../netlink/message.ts';
import { NetlinkSocket, protocols } from '../../netlink/socket.ts';
import { type Element, elementsEqual } from './element.ts';
import { layoutOf, type SetLayout, tableName } from './layout.ts';
import type { Operation } from './operation.ts';
import { attributes, beginBatch, beginMessage, endBatch, headerBytes, messageTypes, setCommentIn } from './wire.ts';
import { writeAffinityMap, writeChain, writeRule } from './wire-chain.ts';
import { beginElements, endElements, readElement, writeElement } from './wire-element.ts';

/** An attribute holds less than 64 KiB; the largest element of ours takes under 400 bytes. */
const elementsBytes = 60_000;
/** A transaction of more than a few hundred changes; its buffer is given back. */
const largeBatchBytes = 256 * 1024;
/** Elements asked for in one request: their answers must fit the receive buffer. */
const readAtOnce = 64;

export interface KernelSet {
  readonly name: string;
  readonly timeoutMs: number;
  /** How many elements it has; null where the kernel does not say (before 6.15 or so). */
  readonly count: number | null;
  readonly comment: string | null;
}

export interface KernelChain {
  readonly name: string;
  /** null: a regular chain. */
  readonly hook: {
    readonly type: string;
    readonly number: number;
    readonly priority: number;
    readonly drops: boolean;
  } | null;
}

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
    const found: KernelSet[] = [];
    this.#dumpTable(messageTypes.getSet, found, (body) => {
      let name = '';
      let timeoutMs = 0;
      let count: number | null = null;
      let comment: string | null = null;
      eachAttribute(body, headerBytes, body.length, (type, start, end) => {
        if (type === attributes.setName) name = textOf(body, start, end);
        else if (type === attributes.setTimeout) timeoutMs = Number(body.readBigUInt64BE(start));
        else if (type === attributes.setCount) count = body.readUInt32BE(start);
        else if (type === attributes.setUserData) comment = setCommentIn(body, start, end);
      });
      return { name, timeoutMs, count, comment };
    });
    return found;
  }

  chains(): KernelChain[] {
    const found: KernelChain[] = [];
    this.#dumpTable(messageTypes.getChain, found, (body) => {
      let name = '';
      let type = '';
      let drops = false;
      let hook: { number: number; priority: number } | null = null;
      eachAttribute(body, headerBytes, body.length, (attribute, start, end) => {
        if (attribute === attributes.chainName) name = textOf(body, start, end);
        else if (attribute === attributes.chainType) type = textOf(body, start, end);
        else if (attribute === attributes.chainPolicy) drops = body.readUInt32BE(start) === 0;
        else if (attribute === attributes.chainHook) {
          const place = { number: 0, priority: 0 };
          eachAttribute(body, start, end, (part, from) => {
            if (part === 1) place.number = body.readUInt32BE(from);
            else if (part === 2) place.priority = body.readInt32BE(from);
          });
          hook = place;
        }
      });
      return { name, hook: hook === null ? null : { ...(hook as { number: number; priority: number }), type, drops } };
    });
    return found;
  }

  /** The rules of every chain, as bytes that are equal exactly when the rules are. */
  rules(): Map<string, string> {
    const found: { readonly chain: string; readonly expressions: string }[] = [];
    this.#dumpTable(messageTypes.getRule, found, (body) => {
      let chain = '';
      let expressions = '';
      eachAttribute(body, headerBytes, body.length, (type, start, end) => {
        if (type === attributes.ruleChain) chain = textOf(body, start, end);
        else if (type === attributes.ruleExpressions) expressions = body.toString('latin1', start, end);
      });
      return { chain, expressions };
    });
    const rules = new Map<string, string>();
    for (const { chain, expressions } of found) rules.set(chain, `${rules.get(chain) ?? ''}|${expressions}`);
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

  #dumpTable<Item>(type: number, found: Item[], read: (body: Buffer) => Item): void {
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
  }
}

/** The table that a message is about, or null. */
export function tableOf(body: Buffer): string | null {
  let table: string | null = null;
  eachAttribute(body, headerBytes, body.length, (type, start, end) => {
    if (type === attributes.table) table = textOf(body, start, end);
  });
  return table;
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

/** Which operation a refusal is about: by the message's sequence number and the place of the attribute in it. */
class Places {
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
