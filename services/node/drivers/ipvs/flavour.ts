import { flags, MessageWriter } from '../../netlink/message.ts';
import { NetlinkSocket, protocols } from '../../netlink/socket.ts';

/** include/uapi/linux/netfilter/nfnetlink.h, nf_tables.h */
const batchBegin = 16;
const batchEnd = 17;
const subsystem = 10;
const newTable = (subsystem << 8) | 0;
const delTable = (subsystem << 8) | 2;
const tableName = 1;
const ipv4 = 2;

/**
 * Can this kernel have nftables tables for IPv4, on which iptables-nft lives? The program itself says so only when it has made
 * one, and its listings succeed without. One transaction that makes a table and removes it leaves no trace.
 */
export function kernelHasNftables(): boolean {
  using socket = NetlinkSocket.open(protocols.netfilter);
  const writer = new MessageWriter(512);
  const message = (type: number, family: number, resource: number, more: number, named: boolean) => {
    writer.begin(type, flags.request | more, socket.nextSequence());
    writer.raw(Uint8Array.of(family, 0, resource >> 8, resource & 0xff));
    if (named) writer.text(tableName, `octoplane-probe-${process.pid}`);
    writer.end();
  };
  message(batchBegin, 0, subsystem, 0, false);
  message(newTable, ipv4, 0, flags.create, true);
  message(delTable, ipv4, 0, flags.ack, true);
  message(batchEnd, 0, subsystem, 0, false);
  const [refusal] = socket.exchange(writer.bytes);
  if (refusal?.code === 'EPERM') throw refusal;
  return refusal === undefined;
}
