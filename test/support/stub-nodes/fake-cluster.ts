import { applyChanges, type EntryChange } from '@octoplane/model/delta.ts';
import { type Digest, DigestSums, entryDifference, wrap } from '@octoplane/model/digest.ts';
import type { NodeName, ServicePortKey } from '@octoplane/model/keys.ts';
import { type Entry, entriesEqual, type RuleSet } from '@octoplane/model/rule-set.ts';
import type { Batch, ClassId, InputRevision, OverlayChange } from '../../../services/controller/compute/batch.ts';
import type { Cluster } from '../../../services/controller/stream/fleet.ts';

/** One edit: of a class, of one node, or a node's move to another class. */
export type Edit =
  | { readonly t: 'class'; readonly id: ClassId; readonly key: ServicePortKey; readonly entry: Entry | null }
  /** Undefined: the node follows its class again. */
  | {
      readonly t: 'node';
      readonly node: NodeName;
      readonly key: ServicePortKey;
      readonly entry: Entry | null | undefined;
    }
  | { readonly t: 'move'; readonly node: NodeName; readonly id: ClassId };

/**
 * Views that tests edit directly, with the contract of compute/batch.ts. It recomputes what it is asked: right, not
 * fast.
 */
export class FakeCluster implements Cluster {
  readonly incarnation: string;
  leaving: ReadonlySet<NodeName> = new Set();
  revision = 0;
  readonly #classes = new Map<ClassId, { readonly ruleSet: Map<ServicePortKey, Entry>; readonly sums: DigestSums }>();
  readonly #overlays = new Map<NodeName, Map<ServicePortKey, Entry | null>>();
  readonly #homes = new Map<NodeName, ClassId>();

  constructor(incarnation = 'fake') {
    this.incarnation = incarnation;
  }

  get inputs(): readonly InputRevision[] {
    return [{ source: 'fake', incarnation: this.incarnation, revision: this.revision }];
  }

  registerNode(name: NodeName, zone: string): void {
    if (!this.#homes.has(name)) this.#homes.set(name, zone || '-');
  }

  serves(): boolean {
    return true;
  }

  forgetNode(name: NodeName): void {
    this.#homes.delete(name);
  }

  classOf(node: NodeName): ClassId {
    return this.#homes.get(node) ?? '-';
  }

  classRuleSet(id: ClassId): RuleSet {
    return this.#class(id).ruleSet;
  }

  classSums(id: ClassId): DigestSums {
    return this.#class(id).sums;
  }

  overlay(node: NodeName): ReadonlyMap<ServicePortKey, Entry | null> {
    return this.#overlays.get(node) ?? new Map();
  }

  viewDigest(node: NodeName): Digest {
    const { ruleSet, sums } = this.#class(this.classOf(node));
    let digest = sums.total;
    for (const [key, entry] of this.overlay(node)) digest += entryDifference(ruleSet.get(key) ?? null, entry);
    return wrap(digest);
  }

  *allEntries(): Generator<Entry> {
    for (const { ruleSet } of this.#classes.values()) yield* ruleSet.values();
    for (const own of this.#overlays.values()) for (const entry of own.values()) if (entry) yield entry;
  }

  view(node: NodeName): Map<ServicePortKey, Entry> {
    const view = new Map(this.classRuleSet(this.classOf(node)));
    for (const [key, entry] of this.overlay(node)) {
      if (entry) view.set(key, entry);
      else view.delete(key);
    }
    return view;
  }

  edit(edits: readonly Edit[]): Batch {
    if (edits.length > 0) this.revision++;
    const classes = new Map<ClassId, EntryChange[]>();
    const overlays = new Map<NodeName, OverlayChange[]>();
    const moved = new Set<NodeName>();
    const touched = new Map<ServicePortKey, Set<ClassId>>();
    const before = new Map<NodeName, Map<ServicePortKey, Entry>>();
    const heldBefore = new Map([...this.#overlays].map(([node, own]) => [node, new Set(own.keys())]));
    for (const node of new Set([...this.#overlays.keys(), ...edits.flatMap((e) => (e.t === 'node' ? [e.node] : []))]))
      before.set(node, this.view(node));
    const mark = (key: ServicePortKey, id: ClassId) => touched.set(key, (touched.get(key) ?? new Set()).add(id));
    const homesBefore = new Map(this.#homes);
    for (const edit of edits) {
      if (edit.t === 'move') {
        if (this.classOf(edit.node) !== edit.id) moved.add(edit.node);
        this.#homes.set(edit.node, edit.id);
        if (homesBefore.get(edit.node) === edit.id) moved.delete(edit.node);
      } else if (edit.t === 'node') {
        const own = this.#overlays.get(edit.node) ?? new Map<ServicePortKey, Entry | null>();
        this.#overlays.set(edit.node, own);
        if (edit.entry === undefined) own.delete(edit.key);
        else own.set(edit.key, edit.entry);
        mark(edit.key, this.classOf(edit.node));
      } else {
        this.#editClass(edit.id, edit.key, edit.entry, classes);
        mark(edit.key, edit.id);
      }
    }
    for (const [node, view] of before) {
      if (moved.has(node)) continue;
      const after = this.view(node);
      const records: OverlayChange[] = [];
      for (const key of touched.keys()) {
        if (!heldBefore.get(node)?.has(key) && !this.overlay(node).has(key)) continue;
        const was = view.get(key) ?? null;
        const is = after.get(key) ?? null;
        records.push({ key, before: was, after: entriesEqual(was, is) ? was : is });
      }
      if (records.length > 0) overlays.set(node, records);
    }
    return { classes, overlays, moved: [...moved], causes: [], inputs: this.inputs };
  }

  #editClass(id: ClassId, key: ServicePortKey, after: Entry | null, classes: Map<ClassId, EntryChange[]>): void {
    const { ruleSet, sums } = this.#class(id);
    const current = ruleSet.get(key) ?? null;
    const changes = classes.get(id) ?? [];
    const earlier = changes.findIndex((change) => change.key === key);
    const before = earlier >= 0 ? (changes[earlier]?.before ?? null) : current;
    if (earlier >= 0) changes.splice(earlier, 1);
    if (!entriesEqual(before, after)) changes.push({ key, before, after });
    sums.replace(current, after);
    applyChanges(ruleSet, [{ key, before: current, after }]);
    if (changes.length > 0) classes.set(id, changes);
    else classes.delete(id);
  }

  #class(id: ClassId) {
    const known = this.#classes.get(id);
    if (known) return known;
    const made = { ruleSet: new Map<ServicePortKey, Entry>(), sums: new DigestSums() };
    this.#classes.set(id, made);
    return made;
  }
}
