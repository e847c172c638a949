import type { Family } from '@octoplane/model/keys.ts';
import type { MessageWriter } from '../../netlink/message.ts';
import { type Affinity, affinityMap, type FrontendForm, type Rule } from './chains.ts';
import { tableName } from './layout.ts';
import { affinityMapSize } from './operation.ts';
import { attributes, DATA_VALUE, LIST_ELEMENT, protocolNumber, userText, writeVerdict } from './wire.ts';

/** Chains, rules and affinity maps: NFTA_CHAIN_*, NFTA_RULE_*, NFTA_SET_*. */
const CHAIN_USERDATA = 12;
const CHAIN_COMMENT = 0;
const USERDATA_SET_COMMENT = 7;

export function writeChain(writer: MessageWriter, name: string, comment: string | null): void {
  writer.text(attributes.table, tableName);
  writer.text(attributes.chainName, name);
  if (comment !== null) writer.attribute(CHAIN_USERDATA, userText(CHAIN_COMMENT, comment));
}

const TYPE_IPV4 = 7;
const TYPE_IPV6 = 8;
const TYPE_PORT = 13;
const SET_MAP = 0x08;
const SET_TIMEOUT = 0x10;
const SET_EVAL = 0x20;
/** How nft shows the bytes: keys in network order, values as their parts say. */
const mapByteOrder = Uint8Array.of(0, 4, 2, 0, 0, 0, 1, 4, 0, 0, 0, 0);

export function writeAffinityMap(writer: MessageWriter, affinity: Affinity, family: Family, id: number): void {
  const v6 = family === 'IPv6';
  const address = v6 ? TYPE_IPV6 : TYPE_IPV4;
  writer.text(attributes.table, tableName);
  writer.text(attributes.setName, affinityMap(affinity, family));
  writer.u32be(3, SET_MAP | SET_TIMEOUT | SET_EVAL);
  writer.u32be(4, address);
  writer.u32be(5, v6 ? 16 : 4);
  writer.u32be(6, (address << 6) | TYPE_PORT);
  writer.u32be(7, v6 ? 20 : 8);
  const description = writer.beginNested(9);
  writer.u32be(1, affinityMapSize);
  writer.endNested(description);
  writer.u32be(10, id);
  writer.target.writeBigUInt64BE(BigInt(affinity.timeoutSeconds) * 1000n, writer.reserve(attributes.setTimeout, 8));
  const comment = userText(USERDATA_SET_COMMENT, `${affinity.owner} ${affinity.list}`);
  writer.attribute(attributes.setUserData, Buffer.concat([mapByteOrder, comment]));
}

export function writeRule(writer: MessageWriter, chain: string, rule: Rule): void {
  writer.text(attributes.table, tableName);
  writer.text(attributes.ruleChain, chain);
  const list = writer.beginNested(attributes.ruleExpressions);
  writeExpressions(writer, rule);
  writer.endNested(list);
}

/** 16-byte registers are 1 to 4, the 4-byte ones that make them up 8 to 23. */
const register = (bytes: number): number => (bytes % 16 === 0 ? 1 + bytes / 16 : 8 + bytes / 4);
const META_NFPROTO = 15;
const META_L4PROTO = 16;
const NETWORK_HEADER = 1;
const TRANSPORT_HEADER = 2;
const familyNumbers = { IPv4: 2, IPv6: 10 } as const;
const addresses = {
  IPv4: { length: 4, source: 12, destination: 16 },
  IPv6: { length: 16, source: 8, destination: 24 },
} as const;

function writeExpressions(writer: MessageWriter, rule: Rule): void {
  switch (rule.t) {
    case 'goto':
      go(writer, rule.chain);
      return;
    case 'wide':
      require8(writer, META_NFPROTO, familyNumbers[rule.family]);
      frontendAndNumber(writer, rule, 1, rule.than);
      expression(writer, 'lookup', () => {
        writer.text(1, rule.set);
        writer.u32be(2, register(0));
      });
      go(writer, rule.chain);
      return;
    case 'dnat':
      require8(writer, META_NFPROTO, familyNumbers[rule.family]);
      frontendAndNumber(writer, rule, rule.modulus, rule.offset);
      destinationFrom(writer, rule.map, rule.family);
      return;
    case 'dnat-known': {
      const { length, source } = addresses[rule.family];
      require8(writer, META_L4PROTO, protocolNumber(rule.proto));
      require8(writer, META_NFPROTO, familyNumbers[rule.family]);
      payload(writer, NETWORK_HEADER, source, length, 0);
      destinationFrom(writer, rule.map, rule.family);
      return;
    }
    case 'learn': {
      const { length, source, destination } = addresses[rule.family];
      require8(writer, META_NFPROTO, familyNumbers[rule.family]);
      payload(writer, NETWORK_HEADER, source, length, 0);
      payload(writer, NETWORK_HEADER, destination, length, 16);
      payload(writer, TRANSPORT_HEADER, 2, 2, 16 + length);
      expression(writer, 'dynset', () => {
        writer.text(1, rule.map);
        writer.u32be(3, 1);
        writer.u32be(4, register(0));
        writer.u32be(5, register(16));
      });
      return;
    }
  }
}

function go(writer: MessageWriter, chain: string): void {
  expression(writer, 'immediate', () => {
    writer.u32be(1, 0);
    writeVerdict(writer, 2, `goto ${chain}`);
  });
}

/** The key of the element: the frontend that the packet is for, and a number drawn among `modulus` from `offset` on. */
function frontendAndNumber(
  writer: MessageWriter,
  rule: { readonly frontend: FrontendForm; readonly family: Family },
  modulus: number,
  offset: number,
): void {
  const { length, destination } = addresses[rule.family];
  let at = 0;
  if (rule.frontend === 'service') {
    payload(writer, NETWORK_HEADER, destination, length, at);
    at += length;
  }
  meta(writer, META_L4PROTO, at);
  payload(writer, TRANSPORT_HEADER, 2, 2, at + 4);
  expression(writer, 'numgen', () => {
    writer.u32be(1, register(at + 8));
    writer.u32be(2, modulus);
    writer.u32be(3, 1);
    writer.u32be(4, offset);
  });
}

/** Address and port of the endpoint into registers, and on to nat. A miss ends the rule. */
function destinationFrom(writer: MessageWriter, map: string, family: Family): void {
  expression(writer, 'lookup', () => {
    writer.text(1, map);
    writer.u32be(2, register(0));
    writer.u32be(3, register(0));
  });
  expression(writer, 'nat', () => {
    writer.u32be(1, 1);
    writer.u32be(2, familyNumbers[family]);
    writer.u32be(3, register(0));
    writer.u32be(5, register(addresses[family].length));
  });
}

function expression(writer: MessageWriter, name: string, body: () => void): void {
  const item = writer.beginNested(LIST_ELEMENT);
  writer.text(1, name);
  const data = writer.beginNested(2);
  body();
  writer.endNested(data);
  writer.endNested(item);
}

function payload(writer: MessageWriter, base: number, offset: number, length: number, into: number): void {
  expression(writer, 'payload', () => {
    writer.u32be(1, register(into));
    writer.u32be(2, base);
    writer.u32be(3, offset);
    writer.u32be(4, length);
  });
}

function meta(writer: MessageWriter, key: number, into: number): void {
  expression(writer, 'meta', () => {
    writer.u32be(1, register(into));
    writer.u32be(2, key);
  });
}

/** Goes on only if the one byte of `key` is this. */
function require8(writer: MessageWriter, key: number, value: number): void {
  meta(writer, key, 0);
  expression(writer, 'cmp', () => {
    writer.u32be(1, register(0));
    writer.u32be(2, 0);
    const data = writer.beginNested(3);
    writer.attribute(DATA_VALUE, Uint8Array.of(value));
    writer.endNested(data);
  });
}
