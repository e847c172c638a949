import { StreamRequest, StreamResponse } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { Fleet } from '../../../services/controller/stream/fleet.ts';
import type { StubNode } from './stub-node.ts';

/** A stream between a stub and a fleet without a wire. It answers in a turn of its own, and an error ends the test. */
export function connectInMemory(fleet: Fleet, stub: StubNode): { hello(): void } {
  const session = fleet.accept({
    peer: 'memory',
    mayBe: () => true,
    write: (bytes) => {
      const answer = stub.received(StreamResponse.decode(bytes));
      if (answer) queueMicrotask(() => say(answer));
      return true;
    },
    end: (error) => {
      if (error) throw error;
    },
  });
  const say = (message: NonNullable<StreamRequest['message']>) =>
    session.received(Buffer.from(StreamRequest.encode({ message }).finish()));
  return { hello: () => say(stub.hello()) };
}
