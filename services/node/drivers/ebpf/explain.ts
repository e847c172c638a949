import { endpointFlags } from '@octoplane/model/rule-set.ts';
import type { Evidence } from '../driver.ts';
import type { Held } from './books.ts';
import { type Frontend, frontendsOf } from './frontends.ts';
import type { KernelMaps } from './kernel-maps.ts';
import {
  addressRoles,
  backendBytes,
  echoActions,
  endpointBytes,
  frontendBytes,
  frontendFlags,
  frontendKinds,
  readBackend,
  readFrontend,
  readService,
  serviceBytes,
} from './layout.ts';
import { addressElements, endpointKeys } from './write.ts';

/** The elements of the maps that decide what happens to a service port's traffic, read from the kernel as they are now. */
export function* explain({ id, entry }: Held, maps: KernelMaps): Generator<Evidence> {
  for (const frontend of frontendsOf(entry.key, entry.spec)) {
    const place = `${frontend.ip} port ${frontend.port}/${frontend.protocol}`;
    yield { object: 'map frontends', at: place, says: frontendText(frontend, maps) };
    if (frontend.kinds !== frontendKinds.nodePort)
      yield { object: 'map addresses', at: frontend.ip, says: addressText(frontend, maps) };
  }
  const record = Buffer.alloc(serviceBytes);
  const key = Buffer.alloc(4);
  key.writeUInt32LE(id);
  if (!maps.services.read(key, record)) {
    yield { object: 'map services', at: String(id), says: absent };
    return;
  }
  const { start, count, generation, key: name } = readService(record, 0);
  yield { object: 'map services', at: String(id), says: `${name}, ${slots(start, count)}, generation ${generation}` };
  for (let slot = start; slot < start + count; slot++)
    yield { object: 'map backends', at: `slot ${slot}`, says: backendText(slot, maps) };
}

const absent = 'is not there';

function frontendText(frontend: Frontend, { frontends }: KernelMaps): string {
  const value = Buffer.alloc(frontendBytes);
  if (!frontends.read(endpointKeys([frontend]).subarray(0, endpointBytes), value)) return absent;
  const { service, inside, outside, affinitySeconds, flags, kinds, generation } = readFrontend(value, 0);
  return [
    `service ${service}`,
    namesOf(kinds, frontendKinds),
    `clients inside get ${slots(inside.start, inside.count)}, packets from outside ${slots(outside.start, outside.count)}`,
    ...(flags ? [namesOf(flags, frontendFlags)] : []),
    ...(affinitySeconds ? [`affinity ${affinitySeconds} s`] : []),
    `generation ${generation}`,
  ].join(', ');
}

function addressText({ ip }: Frontend, maps: KernelMaps): string {
  const value = Buffer.alloc(4);
  if (!maps.addresses.read(addressElements([{ ip, value: { roles: 0, echo: 0 } }], maps).keys, value)) return absent;
  const echo = Object.entries(echoActions).find(([, action]) => action === value[1])?.[0];
  return `${namesOf(value[0] ?? 0, addressRoles)}, ping: ${echo}`;
}

function backendText(slot: number, { backends }: KernelMaps): string {
  const backend = readBackend(backends.bytes, slot * backendBytes);
  if (backend === null) return 'is no endpoint';
  const ip = backend.ip.includes(':') ? `[${backend.ip}]` : backend.ip;
  return `${ip}:${backend.port} of service ${backend.service}, ${namesOf(backend.flags, endpointFlags)}`;
}

const slots = (start: number, count: number): string =>
  count === 0 ? 'no slot' : count === 1 ? `slot ${start}` : `slots ${start} to ${start + count - 1}`;

const namesOf = (bits: number, names: Readonly<Record<string, number>>): string =>
  Object.entries(names)
    .filter(([, bit]) => bits & bit)
    .map(([name]) => name)
    .join(' and ') || 'nothing';
