import { describe, expect, it } from 'vitest';
import { eachAttribute, flags, MessageWriter, messagesIn, textOf } from './message.ts';

describe('netlink messages', () => {
  it('reads back what it wrote, with padding and nesting', () => {
    const writer = new MessageWriter(32);
    for (const [sequence, name] of [
      [7, 'octoplane'],
      [8, 'abc'],
    ] as const) {
      writer.begin(0x0a0c, flags.request, sequence);
      writer.raw(Uint8Array.of(1, 0, 0, 10));
      writer.text(1, name);
      const nest = writer.beginNested(3);
      writer.u32be(2, 0x01020304);
      writer.target.writeUInt16BE(8080, writer.reserve(5, 6));
      writer.endNested(nest);
      writer.end();
    }
    writer.addFlags(flags.ack);

    const seen: unknown[] = [];
    for (const message of messagesIn(writer.bytes)) {
      seen.push([message.type, message.flags, message.sequence]);
      eachAttribute(message.body, 4, message.body.length, (type, start, end) => {
        if (type === 1) seen.push(textOf(message.body, start, end));
        else
          eachAttribute(message.body, start, end, (inner, from, to) => {
            seen.push([inner, message.body.subarray(from, to).toString('hex')]);
          });
      });
    }
    expect(seen).toEqual([
      [0x0a0c, flags.request, 7],
      'octoplane',
      [2, '01020304'],
      [5, '1f9000000000'],
      [0x0a0c, flags.request | flags.ack, 8],
      'abc',
      [2, '01020304'],
      [5, '1f9000000000'],
    ]);
  });

  it('can be used again after a reset', () => {
    const writer = new MessageWriter();
    writer.begin(1, 0, 1);
    writer.end();
    writer.reset();
    expect(writer.length).toBe(0);
    writer.begin(2, 0, 2);
    writer.end();
    expect([...messagesIn(writer.bytes)].map((message) => message.type)).toEqual([2]);
  });

  it('refuses lengths that lie', () => {
    const short = Buffer.alloc(16);
    short.writeUInt32LE(99);
    expect(() => [...messagesIn(short)]).toThrow(RangeError);
    const attribute = Buffer.from([9, 0, 1, 0, 0, 0]);
    expect(() => eachAttribute(attribute, 0, attribute.length, (type) => type)).toThrow(RangeError);
  });

  it('refuses an attribute beyond 64 KiB', () => {
    const writer = new MessageWriter();
    writer.begin(1, 0, 1);
    const nest = writer.beginNested(1);
    writer.attribute(1, new Uint8Array(65_000));
    writer.attribute(1, new Uint8Array(65_000));
    expect(() => writer.endNested(nest)).toThrow(RangeError);
  });
});
