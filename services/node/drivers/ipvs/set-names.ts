import type { Family } from '@octoplane/model/keys.ts';
import type { SetSpec } from './sets.ts';

/**
 * Our sets, by role. IPVS itself knows nothing of where packets come from and what else is to be done with them, so the
 * few rules in rules.ts look frontends up here; and IPVS keeps no names, so the comments here say which Service a frontend is of.
 */
export const setRoles = {
  /** Frontends for clients inside the cluster. */
  internal: 'hash:ip,port',
  /** Frontends for everybody: the node takes the client's place, so that answers come back this way. */
  external: 'hash:ip,port',
  /** Frontends for everybody whose clients keep their address. */
  local: 'hash:ip,port',
  /** Of `local`, the mark that sends clients in the cluster to all endpoints. */
  near: 'hash:ip,port',
  /** Frontends without an endpoint here, though there are some elsewhere. */
  away: 'hash:ip,port',
  /** Frontends without an endpoint anywhere. */
  none: 'hash:ip,port',
  /** Frontends that only `sources` may use. */
  ranged: 'hash:ip,port',
  sources: 'hash:ip,port,net',
  /** Addresses that are ours whatever the port. */
  address: 'hash:ip',
  /** Of `address`, those that answer a ping. */
  ping: 'hash:ip',
} as const satisfies Record<string, SetSpec['type']>;

export type SetRole = keyof typeof setRoles;

const prefix = 'octo-ipvs-';
const specs = new Map<string, SetSpec>();

export function setSpec(role: SetRole, family: Family): SetSpec {
  const name = `${prefix}${role}-${family === 'IPv4' ? 4 : 6}`;
  let spec = specs.get(name);
  if (!spec) {
    spec = { name, type: setRoles[role], family };
    specs.set(name, spec);
  }
  return spec;
}

export const setsOf = (family: Family): SetSpec[] =>
  (Object.keys(setRoles) as SetRole[]).map((role) => setSpec(role, family));
