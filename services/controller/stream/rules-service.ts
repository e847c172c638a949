import {
  status as grpcStatus,
  type ServerDuplexStream,
  type ServiceDefinition,
  type UntypedHandleCall,
} from '@grpc/grpc-js';
import { RulesServiceService } from '@octoplane/model/gen/octoplane/v1/stream.ts';
import type { NodeName } from '@octoplane/model/keys.ts';
import type { Fleet } from './fleet.ts';
import type { Session } from './session.ts';
import type { StreamError } from './stream-error.ts';

/** RulesService with its messages left as bytes: frames are encoded once for many nodes, and requests are checked before they are decoded. */
export const rulesServiceDefinition = {
  stream: {
    ...RulesServiceService.stream,
    requestSerialize: (bytes: Buffer): Buffer => bytes,
    requestDeserialize: (bytes: Buffer): Buffer => bytes,
    responseSerialize: (bytes: Buffer): Buffer => bytes,
    responseDeserialize: (bytes: Buffer): Buffer => bytes,
  },
} satisfies ServiceDefinition;

export type RulesCall = ServerDuplexStream<Buffer, Buffer>;

/** Whom a call may speak for; tls/identity.ts. */
export type Authorize = (call: RulesCall) => (name: NodeName) => boolean;

export function rulesService(fleet: Fleet, authorize: Authorize): Record<string, UntypedHandleCall> {
  return { stream: (call: RulesCall) => serve(fleet, authorize, call) };
}

function serve(fleet: Fleet, authorize: Authorize, call: RulesCall): void {
  let hasEnded = false;
  const session: Session = fleet.accept({
    peer: call.getPeer(),
    mayBe: authorize(call),
    write: (message) => call.write(message),
    end(error) {
      hasEnded = true;
      if (error) call.emit('error', serviceError(error));
      else call.end();
    },
  });
  call.on('data', (bytes: Buffer) => session.received(bytes));
  call.on('drain', () => session.drained());
  call.on('cancelled', () => session.closed());
  call.on('close', () => session.closed());
  call.on('end', () => {
    session.closed();
    if (!hasEnded) call.end();
  });
  // A broken transport also closes; what the peer did is told by `cancelled`.
  call.on('error', () => session.closed());
}

const serviceError = (error: StreamError) =>
  Object.assign(new Error(error.message), { code: error.grpcStatus ?? grpcStatus.INTERNAL, details: error.message });
