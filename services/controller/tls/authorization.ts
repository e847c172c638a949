import type { ServerUnaryCall } from '@grpc/grpc-js';
import type { NodeName } from '@octoplane/model/keys.ts';
import { type Identity, identitiesOf } from './identity.ts';

type Authenticated = Pick<ServerUnaryCall<unknown, unknown>, 'getAuthContext'>;

/** Who may do what, by certificate. Without TLS everybody may do everything. */
export function authorization(isEnforced: boolean): {
  node(call: Authenticated): (name: NodeName) => boolean;
  admin(call: Authenticated): boolean;
} {
  if (!isEnforced) return { node: () => () => true, admin: () => true };
  return {
    node: (call) => (name) => identities(call).some((one) => one.t === 'node' && one.name === name),
    admin: (call) => identities(call).some((one) => one.t === 'admin'),
  };
}

function identities(call: Authenticated): Identity[] {
  const certificate = call.getAuthContext().sslPeerCertificate;
  return certificate ? identitiesOf(certificate) : [];
}
