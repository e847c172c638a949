import type { Connection } from '../driver.ts';
import { readIterator } from './iterator.ts';
import { checked } from './kernel-error.ts';
import { readAddress, tupleBytes } from './layout.ts';
import { libbpf } from './libbpf.ts';
import type { LoadedObject } from './object.ts';

/** The connections that sockets were led to directly (direct.bpf.c). Costs a walk over the sockets that services were connected through. */
export function directConnections(object: LoadedObject): Connection[] {
  const program = object.programFd('octo_list');
  return ['peers', 'udp_peers'].flatMap((map) => {
    const link = checked(libbpf().createMapIterator(program, object.mapFd(map)), 'preparing to list sockets');
    try {
      return connectionsIn(readIterator(link));
    } finally {
      libbpf().closeFd(link);
    }
  });
}

function connectionsIn(bytes: Buffer): Connection[] {
  const connections: Connection[] = [];
  for (let at = 0; at < bytes.length; at += tupleBytes) {
    const [source, destination] = [readAddress(bytes, at), readAddress(bytes, at + 16)];
    if (source === null || destination === null) continue;
    connections.push({
      protocol: bytes[at + 36] === 6 ? 'TCP' : 'UDP',
      source,
      destination,
      sourcePort: bytes.readUInt16BE(at + 32),
      destinationPort: bytes.readUInt16BE(at + 34),
    });
  }
  return connections;
}
