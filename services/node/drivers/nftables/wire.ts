import { eachAttribute, flags, type MessageWriter, textOf } from '../../netlink/message.ts';

/**
 * Elements, chains, rules and maps in the form of include/uapi/linux/netfilter/nf_tables.h. Byte orders and register
 * numbers are those that nft(8) writes, so that it lists what is made here as if it had been given the text.
 */
export const messageTypes = {
  newTable: 0x0a00,
  getTable: 0x0a01,
  deleteTable: 0x0a02,
  newChain: 0x0a03,
  getChain: 0x0a04,
  deleteChain: 0x0a05,
  newRule: 0x0a06,
  getRule: 0x0a07,
  deleteRule: 0x0a08,
  newSet: 0x0a09,
  getSet: 0x0a0a,
  deleteSet: 0x0a0b,
  newElement: 0x0a0c,
  getElement: 0x0a0d,
  deleteElement: 0x0a0e,
  newGeneration: 0x0a0f,
  getGeneration: 0x0a10,
  batchBegin: 0x0010,
  batchEnd: 0x0011,
} as const;

const NFPROTO_INET = 1;
/** struct nfgenmsg: family, version, resource id in network order. */
const inetHeader = Uint8Array.of(NFPROTO_INET, 0, 0, 0);
const batchHeader = Uint8Array.of(0, 0, 0, 10);
export const headerBytes = 4;

export const attributes = {
  table: 1,
  elementsSet: 2,
  elements: 3,
  setName: 2,
  setTimeout: 11,
  setUserData: 13,
  setCount: 20,
  chainName: 3,
  chainHook: 4,
  chainPolicy: 5,
  chainType: 7,
  ruleChain: 2,
  ruleHandle: 3,
  ruleExpressions: 4,
  generationId: 1,
} as const;

/** NFTA_LIST_ELEM and NFTA_DATA_*. */
export const LIST_ELEMENT = 1;
export const DATA_VALUE = 1;
export const DATA_VERDICT = 2;
const VERDICT_CODE = 1;
const VERDICT_CHAIN = 2;
const USERDATA_SET_COMMENT = 7;

const NF_DROP = 0;
const NFT_JUMP = -3;
const NFT_GOTO = -4;
const NFT_RETURN = -5;

export function beginBatch(writer: MessageWriter): void {
  writer.begin(messageTypes.batchBegin, flags.request, 0);
  writer.raw(batchHeader);
  writer.end();
}

/** The last message before it carries the acknowledgement of the whole: older kernels give none for this one. */
export function endBatch(writer: MessageWriter): void {
  writer.addFlags(flags.ack);
  writer.begin(messageTypes.batchEnd, flags.request, 0);
  writer.raw(batchHeader);
  writer.end();
}

export function beginMessage(writer: MessageWriter, type: number, messageFlags: number, sequence: number): void {
  writer.begin(type, flags.request | messageFlags, sequence);
  writer.raw(inetHeader);
}

const protocolByName: Readonly<Record<string, number>> = { tcp: 6, udp: 17, sctp: 132 };
export const protocolNames = new Map(Object.entries(protocolByName).map(([name, number]) => [number, name]));
export const protocolNumber = (name: string): number => protocolByName[name] ?? 0;

export function writeVerdict(writer: MessageWriter, type: number, verdict: string): void {
  const [word = '', chain] = verdict.split(' ');
  const codes: Readonly<Record<string, number>> = { drop: NF_DROP, jump: NFT_JUMP, goto: NFT_GOTO, return: NFT_RETURN };
  const data = writer.beginNested(type);
  const nest = writer.beginNested(DATA_VERDICT);
  writer.u32be(VERDICT_CODE, (codes[word] ?? NF_DROP) >>> 0);
  if (chain !== undefined) writer.text(VERDICT_CHAIN, chain);
  writer.endNested(nest);
  writer.endNested(data);
}

export function readVerdict(bytes: Buffer, start: number, end: number): string {
  let code = 0;
  let chain = '';
  eachAttribute(bytes, start, end, (type, from, to) => {
    if (type === VERDICT_CODE) code = bytes.readInt32BE(from);
    else if (type === VERDICT_CHAIN) chain = textOf(bytes, from, to);
  });
  switch (code) {
    case NFT_GOTO:
      return `goto ${chain}`;
    case NFT_JUMP:
      return `jump ${chain}`;
    case NFT_RETURN:
      return 'return';
    case NF_DROP:
      return 'drop';
    default:
      return `verdict ${code}`;
  }
}

/** A comment as nft keeps it: type, length, text with its NUL. */
export function userText(type: number, text: string): Uint8Array {
  const bytes = Buffer.alloc(2 + Buffer.byteLength(text) + 1);
  bytes[0] = type;
  bytes[1] = bytes.length - 2;
  bytes.write(text, 2);
  return bytes;
}

export function commentIn(bytes: Buffer, start: number, end: number, wanted: number): string | null {
  for (let at = start; at + 2 <= end; ) {
    const length = bytes[at + 1] ?? 0;
    if (bytes[at] === wanted) return textOf(bytes, at + 2, at + 2 + length);
    at += 2 + length;
  }
  return null;
}

export const setCommentIn = (bytes: Buffer, start: number, end: number): string | null =>
  commentIn(bytes, start, end, USERDATA_SET_COMMENT);
