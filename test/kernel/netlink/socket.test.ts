import { NetlinkError } from '@octoplane/node/netlink/errors.ts';
import { flags, MessageWriter, textOf, types } from '@octoplane/node/netlink/message.ts';
import { NetlinkSocket, protocols } from '@octoplane/node/netlink/socket.ts';
import { describe, expect, it } from 'vitest';

const RTM_GETLINK = 18;
const RTM_NEWLINK = 16;
const linkHeader = new Uint8Array(16);

/** These read the machine's own interfaces and change nothing. */
describe('a netlink socket', () => {
  it('dumps', () => {
    using socket = NetlinkSocket.open(protocols.route);
    const request = new MessageWriter();
    request.begin(RTM_GETLINK, flags.request | flags.dump, socket.nextSequence());
    request.raw(linkHeader);
    request.end();
    let names: string[] = [];
    socket.dump(
      request.bytes,
      (message) => {
        expect(message.type).toBe(RTM_NEWLINK);
        // IFLA_IFNAME is the first attribute of a link.
        names.push(textOf(message.body, 20, 16 + message.body.readUInt16LE(16)));
      },
      () => {
        names = [];
      },
    );
    expect(names).toContain('lo');
  });

  it('tells which message of several was refused, and why', () => {
    using socket = NetlinkSocket.open(protocols.route);
    const request = new MessageWriter();
    const absent = socket.nextSequence();
    request.begin(RTM_GETLINK, flags.request | flags.ack, absent);
    request.raw(linkHeader.with(4, 0xff).with(5, 0xff).with(6, 0xff));
    request.end();
    const present = socket.nextSequence();
    request.begin(RTM_GETLINK, flags.request, present);
    request.raw(linkHeader.with(4, 1));
    request.end();
    const answers: number[] = [];
    const refusals = socket.exchange(request.bytes, (message) => {
      expect(message.type).not.toBe(types.error);
      answers.push(message.sequence);
    });
    expect(answers).toEqual([present]);
    expect(refusals).toHaveLength(1);
    expect(refusals[0]).toBeInstanceOf(NetlinkError);
    expect(refusals[0]).toMatchObject({ code: 'ENODEV', sequence: absent });
  });

  it('takes a datagram larger than the default send buffer', () => {
    using socket = NetlinkSocket.open(protocols.route);
    const request = new MessageWriter();
    for (let i = 0; i < 30_000; i++) {
      request.begin(types.noop, 0, i + 1);
      request.raw(linkHeader);
      request.end();
    }
    expect(request.length).toBeGreaterThan(900_000);
    expect(socket.exchange(request.bytes)).toEqual([]);
  });
});
