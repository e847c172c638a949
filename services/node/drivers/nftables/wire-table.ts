import { eachAttribute, textOf } from '../../netlink/message.ts';
import { attributes, headerBytes, setCommentIn } from './wire.ts';

/** What the kernel says of the sets, chains and rules of a table: NFTA_SET_*, NFTA_CHAIN_*, NFTA_RULE_*. */
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

export interface KernelRule {
  readonly chain: string;
  /** As bytes. */
  readonly expressions: string;
}

export function readSet(body: Buffer): KernelSet {
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
}

export function readChain(body: Buffer): KernelChain {
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
}

export function readRule(body: Buffer): KernelRule {
  let chain = '';
  let expressions = '';
  eachAttribute(body, headerBytes, body.length, (type, start, end) => {
    if (type === attributes.ruleChain) chain = textOf(body, start, end);
    else if (type === attributes.ruleExpressions) expressions = body.toString('latin1', start, end);
  });
  return { chain, expressions };
}

/** The table that a message is about, or null. */
export function tableOf(body: Buffer): string | null {
  let table: string | null = null;
  eachAttribute(body, headerBytes, body.length, (type, start, end) => {
    if (type === attributes.table) table = textOf(body, start, end);
  });
  return table;
}
