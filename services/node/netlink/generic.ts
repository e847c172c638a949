import { constants } from 'node:os';
import { NetlinkError } from './errors.ts';
import { eachAttribute, flags, MessageWriter } from './message.ts';
import type { NetlinkSocket } from './socket.ts';

/** include/uapi/linux/genetlink.h */
const controller = { id: 16, getFamily: 3, familyId: 1, familyName: 2 } as const;

/** struct genlmsghdr. */
export const genericHeaderLength = 4;

/**
 * The number under which the running kernel knows a generic netlink family. Asking loads the module that provides it, when the
 * kernel can.
 * @throws NetlinkError ENOENT when there is no such family.
 */
export function genericFamily(socket: NetlinkSocket, name: string): number {
  const writer = new MessageWriter(128);
  beginGeneric(writer, controller.id, controller.getFamily, flags.request, socket.nextSequence());
  writer.text(controller.familyName, name);
  writer.end();
  let id = 0;
  const [refusal] = socket.exchange(writer.bytes, ({ body }) => {
    eachAttribute(body, genericHeaderLength, body.length, (type, start) => {
      if (type === controller.familyId) id = body.readUInt16LE(start);
    });
  });
  if (refusal) throw refusal;
  if (id === 0) throw new NetlinkError(`generic netlink family ${name}`, constants.errno.ENOENT);
  return id;
}

/** Begins a message of a family, with its header in version 1. */
export function beginGeneric(
  writer: MessageWriter,
  family: number,
  command: number,
  messageFlags: number,
  sequence: number,
): void {
  writer.begin(family, messageFlags, sequence);
  writer.raw(Uint8Array.of(command, 1, 0, 0));
}
