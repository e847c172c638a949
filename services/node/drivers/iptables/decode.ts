import { canonicalIp, type Ip } from '@octoplane/model/address.ts';
import { parseServicePortKey, type ServicePortKey } from '@octoplane/model/keys.ts';
import {
  compareEndpoints,
  type Endpoint,
  type Entry,
  endpointFlags,
  type ServicePortSpec,
} from '@octoplane/model/rule-set.ts';
import type { Table } from './frame.ts';
import { type FrontendKind, type Note, parseNote } from './frontends.ts';
import type { Chains } from './model.ts';
import { frameNames, serviceChain } from './names.ts';
import { serviceRules } from './service.ts';
import type { Settings } from './settings.ts';

/** What the kernel has of ours in one family. */
export interface FamilyChains {
  readonly settings: Settings;
  readonly tables: Record<Table, Chains>;
}

/**
 * Chains back to entries. An entry is believed only if the rules that it would have are there, all of them and no others in its
 * chains: what differs in any way is left out, so that it is written again.
 */
export function decode(families: readonly FamilyChains[]): Map<ServicePortKey, Entry> {
  const caught = families.map(({ tables }) => ({ nat: caughtRules(tables.nat), filter: caughtRules(tables.filter) }));
  const drafts = new Map<ServicePortKey, Draft>();
  for (const [i, { tables }] of families.entries()) {
    for (const rule of caught[i]?.nat ?? []) readCatch(drafts, rule, tables.nat);
  }
  const entries = new Map<ServicePortKey, Entry>();
  for (const [key, draft] of drafts) {
    const entry = finish(key, draft);
    const intact = families.every((family, i) => {
      const rules = caught[i];
      return rules !== undefined && isIntact(entry, family, rules);
    });
    if (intact) entries.set(key, entry);
  }
  return entries;
}

/** Rules of the trees that can be reached and do not lead on within the tree. */
function caughtRules(chains: Chains): Set<string> {
  const caught = new Set<string>();
  const seen = new Set<string>();
  const walk = (name: string): void => {
    if (seen.has(name)) return;
    seen.add(name);
    for (const rule of chains.get(name) ?? []) {
      const jump = /-j (OCTO-(?:IP|NP)-\S+)$/.exec(rule);
      if (jump?.[1] === undefined) caught.add(rule);
      else walk(jump[1]);
    }
  };
  walk(frameNames.addresses);
  walk(frameNames.nodePorts);
  return caught;
}

interface Draft {
  readonly note: Note;
  readonly addresses: Record<Exclude<FrontendKind, 'nodePort'>, Set<Ip>>;
  nodePort: number;
  internalPolicy: ServicePortSpec['internalPolicy'];
  externalPolicy: ServicePortSpec['externalPolicy'];
  usableFamilies: number;
  readonly ranges: Set<string>;
  readonly endpoints: Map<string, Endpoint>;
}

const catchForm =
  /^(?:-d ([0-9a-f.:]+)\/(?:32|128) )?-p \S+ -m \S+ --dport ([0-9]+) -m comment --comment "([^"]*)" -j (OCTO-(?:SVC|LOC|EXT|RNG)-\S+)$/;

function readCatch(drafts: Map<ServicePortKey, Draft>, rule: string, nat: Chains): void {
  const [, ip, port = '', text = ''] = catchForm.exec(rule) ?? [];
  const note = parseNote(text);
  if (note === null || parseServicePortKey(note.key) === null) return;
  let draft = drafts.get(note.key);
  if (draft === undefined) {
    draft = newDraft(note);
    drafts.set(note.key, draft);
  }
  draft.usableFamilies |= note.usableFamilies;
  if (note.kind === 'clusterIP') draft.internalPolicy = note.policy;
  else draft.externalPolicy = note.policy;
  if (note.kind === 'nodePort') draft.nodePort = Number(port);
  else if (ip !== undefined) draft.addresses[note.kind].add(canonicalIp(ip) ?? ip);
  readEndpoints(draft, nat.get(serviceChain('SVC', note.key)) ?? [], endpointFlags.cluster);
  readEndpoints(draft, nat.get(serviceChain('LOC', note.key)) ?? [], endpointFlags.local);
  if (note.kind === 'loadBalancerIP') readRanges(draft, nat.get(serviceChain('RNG', note.key)), ip?.includes(':'));
}

const newDraft = (note: Note): Draft => ({
  note,
  addresses: { clusterIP: new Set(), loadBalancerIP: new Set(), externalIP: new Set() },
  nodePort: 0,
  internalPolicy: 'Cluster',
  externalPolicy: 'Cluster',
  usableFamilies: 0,
  ranges: new Set(),
  endpoints: new Map(),
});

const destination = / --to-destination \[?([0-9a-f.:]+?)\]?:([0-9]+)$/;

function readEndpoints(draft: Draft, rules: readonly string[], flag: number): void {
  for (const rule of rules) {
    const [, ip = '', port] = destination.exec(rule) ?? [];
    if (port === undefined) continue;
    const id = `${ip} ${port}`;
    const flags = (draft.endpoints.get(id)?.flags ?? 0) | flag;
    draft.endpoints.set(id, { ip: canonicalIp(ip) ?? ip, port: Number(port), flags });
  }
}

/** The rules for clients on this node have a comment, and name no range. */
function readRanges(draft: Draft, rules: readonly string[] | undefined, ipv6: boolean | undefined): void {
  for (const rule of rules ?? []) {
    const [, source] = /^(?:-s (\S+) )?-j /.exec(rule) ?? [];
    if (source !== undefined) draft.ranges.add(source);
    else if (rule.startsWith('-j ')) draft.ranges.add(ipv6 ? '::/0' : '0.0.0.0/0');
  }
}

function finish(key: ServicePortKey, draft: Draft): Entry {
  const { note, addresses, ranges } = draft;
  return {
    key,
    spec: {
      clusterIps: [...addresses.clusterIP].sort(),
      externalIps: [...addresses.externalIP].sort(),
      loadBalancerIps: [...addresses.loadBalancerIP].sort(),
      nodePort: draft.nodePort,
      internalPolicy: draft.internalPolicy,
      externalPolicy: draft.externalPolicy,
      affinityTimeoutSeconds: note.affinityTimeoutSeconds,
      sourceRanges: [...ranges].sort(),
      healthCheckNodePort: 0,
      usableFamilies: draft.usableFamilies,
    },
    endpoints: [...draft.endpoints.values()].sort(compareEndpoints),
  };
}

function isIntact(
  entry: Entry,
  { settings, tables }: FamilyChains,
  caught: { readonly nat: ReadonlySet<string>; readonly filter: ReadonlySet<string> },
): boolean {
  const wanted = serviceRules(entry, settings);
  for (const [name, rules] of wanted.chains) {
    const found = tables.nat.get(name);
    if (found === undefined || found.length !== rules.length || !rules.every((rule, i) => rule === found[i]))
      return false;
  }
  return wanted.catches.every(
    ({ translate, refuse }) => caught.nat.has(translate) && (refuse === null || caught.filter.has(refuse)),
  );
}
