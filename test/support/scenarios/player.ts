import { readFileSync } from 'node:fs';
import type { Family } from '@octoplane/model/keys.ts';
import type { Cluster } from '../lab/cluster.ts';
import { type HttpAnswer, httpGet } from '../lab/http.ts';
import type { Flow, Lab } from '../lab/lab.ts';
import { describeOutcome } from '../lab/outcome.ts';
import { checkExpectation, silenceMs } from './expectations.ts';
import { chosenPods, completeManifest, endpointPorts, endpointSlices } from './manifests.ts';
import type { EndpointsSpec, Expectation, Scenario, Step, StepOf } from './scenario.ts';
import { listensOn } from './sockets.ts';
import { expand, parseTarget, type Words, wordsFor } from './words.ts';

const httpPatienceMs = 3_000;

/** A step that did not go as its scenario says; every sentence of the message is one thing that was wrong. */
export class StoryError extends Error {
  override readonly name = 'StoryError';
}

export interface Telling {
  readonly lab: Lab;
  readonly cluster: Cluster;
  /** One, or both for a scenario that needs them at once. */
  readonly families: readonly [Family, ...Family[]];
  /** Compares what the node's kernel holds with the golden text. */
  golden(scenario: Scenario): Promise<string[]>;
}

/**
 * Tells one scenario: changes are written at once and waited for only when something is to be seen, so a change that several
 * steps describe arrives as it would from an editor. Afterwards nothing of it is left.
 */
export class Player {
  readonly #telling: Telling;
  readonly #scenario: Scenario;
  readonly #words: Words;
  readonly #written = new Map<string, readonly [kind: string, name: string]>();
  readonly #flows = new Map<string, Flow>();
  #unsettled = false;

  constructor(scenario: Scenario, telling: Telling) {
    this.#scenario = scenario;
    this.#telling = telling;
    this.#words = wordsFor(telling.lab, telling.families[0]);
  }

  /** @throws StoryError at the first step that does not go as it should. */
  async tell(): Promise<void> {
    for (const [i, step] of this.#scenario.steps.entries()) {
      const problems = await this.#play(step);
      if (problems.length > 0)
        throw new StoryError(
          `${this.#scenario.name}, step ${i + 1} (${step.t}):\n${problems.map((each) => `- ${each}`).join('\n')}`,
        );
    }
    await this.settle();
  }

  /** Waits until what was written is in every kernel. */
  async settle(): Promise<void> {
    if (!this.#unsettled) return;
    await this.#telling.cluster.settled();
    this.#unsettled = false;
  }

  async cleanUp(): Promise<void> {
    for (const flow of this.#flows.values()) await flow[Symbol.asyncDispose]();
    const { cluster } = this.#telling;
    for (const [kind, name] of this.#written.values())
      if (kind === 'Node') cluster.putNode(name);
      else cluster.source.remove(kind, name);
    this.#unsettled = this.#written.size > 0;
    this.#written.clear();
    await this.settle();
    await this.#telling.lab.stopServing();
  }

  async #play(step: Step): Promise<string[]> {
    const { t } = step;
    if (t !== 'apply' && t !== 'endpoints' && t !== 'remove') await this.settle();
    switch (t) {
      case 'apply':
        return this.#apply(expand(step.value, this.#words));
      case 'endpoints':
        return this.#endpoints(expand(step.value, this.#words));
      case 'remove':
        return this.#remove(step.value);
      case 'expect':
        return this.#expect(step.value);
      case 'ping':
        return this.#ping(expand(step.value, this.#words));
      case 'open':
        return this.#open(expand(step.value, this.#words));
      case 'ask':
        return this.#ask(expand(step.value, this.#words));
      case 'close':
        return this.#close(step.value);
      case 'serve':
        return this.#serve(expand(step.value, this.#words));
      case 'http':
        return this.#http(expand(step.value, this.#words));
      case 'nobodyListens':
        return this.#nobodyListens(step.value);
      case 'golden':
        return this.#telling.golden(this.#scenario);
      case 'restart':
        return this.#restart(step.value);
      case 'sysctl':
        return this.#sysctl(step.value);
      case 'idle':
        // Affinity and flows expire by the kernel's clock, which is the one clock that a test cannot pass in.
        await new Promise((resolve) => setTimeout(resolve, step.value.seconds * 1000));
        return [];
    }
  }

  #apply(manifests: StepOf<'apply'>): string[] {
    for (const given of manifests) this.#put(completeManifest(given));
    return [];
  }

  async #endpoints(specs: readonly EndpointsSpec[]): Promise<string[]> {
    const { lab, families } = this.#telling;
    for (const spec of specs) {
      for (const family of spec.families ?? families)
        for (const { pod } of spec.serve === false ? [] : chosenPods(spec))
          for (const { port, protocol = 'TCP' } of endpointPorts(spec)) await lab.serve(pod, family, port, protocol);
      for (const slice of endpointSlices(lab, spec, families)) this.#put(slice);
    }
    return [];
  }

  #put(manifest: ReturnType<typeof completeManifest>): void {
    const { kind, metadata } = manifest;
    this.#telling.cluster.source.put(manifest);
    this.#written.set(`${kind}/${metadata.name}`, [kind, metadata.name]);
    this.#unsettled = true;
  }

  /** "EndpointSlice/web" is all of its families' slices. */
  #remove(names: StepOf<'remove'>): string[] {
    const problems: string[] = [];
    for (const given of names) {
      const found = [...this.#written].filter(
        ([key]) => key === given || key === `${given}-ipv4` || key === `${given}-ipv6`,
      );
      if (found.length === 0)
        problems.push(`${given} was not applied before; applied are ${[...this.#written.keys()].join(', ')}`);
      for (const [key, [kind, name]] of found) {
        this.#telling.cluster.source.remove(kind, name);
        this.#written.delete(key);
        this.#unsettled = true;
      }
    }
    return problems;
  }

  /** All at once, but for those that change the outside host's route. */
  async #expect(given: readonly Expectation[]): Promise<string[]> {
    const { lab } = this.#telling;
    const expectations = expand(given, this.#words);
    const plain = expectations.filter(({ via }) => via === undefined);
    const problems = (await Promise.all(plain.map((each) => checkExpectation(lab, each, this.#words)))).flat();
    for (const each of expectations) {
      if (each.via === undefined) continue;
      lab.routeOutsideThrough(each.via);
      for (const problem of await checkExpectation(lab, each, this.#words))
        problems.push(`via ${each.via}, ${problem}`);
    }
    if (plain.length < expectations.length) lab.routeOutsideThrough('node-1');
    return problems;
  }

  async #ping(pings: StepOf<'ping'>): Promise<string[]> {
    const problems: string[] = [];
    for (const { from, to, is } of pings) {
      for (const place of from) {
        const timeoutMs = is === 'silent' ? silenceMs : undefined;
        const outcome = await this.#telling.lab.ping(place, to, timeoutMs);
        const got = outcome.t === 'timedOut' ? 'silent' : outcome.t === 'replied' ? 'replied' : 'rejected';
        if (got !== is) problems.push(`ping from ${place} to ${to}: expected ${is}, but it was ${got}`);
      }
    }
    return problems;
  }

  async #open({ flow, from, to, over = 'TCP', bindPort, connected }: StepOf<'open'>): Promise<string[]> {
    const { ip, port } = parseTarget(to);
    const options = { ...(bindPort !== undefined && { bindPort }), ...(connected !== undefined && { connected }) };
    this.#flows.set(flow, await this.#telling.lab.open(from, ip, port, { transport: over, ...options }));
    return [];
  }

  async #ask({ flow: name, reaches = [], fails, remember }: StepOf<'ask'>): Promise<string[]> {
    const flow = this.#flows.get(name);
    if (!flow) return [`no flow "${name}" is open`];
    const outcome = await flow.ask(fails ? silenceMs : undefined);
    const right =
      outcome.t === 'answered' ? !fails && (reaches.length === 0 || reaches.includes(outcome.by)) : fails === true;
    if (!right)
      return [
        `flow ${name}: expected ${fails ? 'no answer' : reaches.join(' or ') || 'an answer'}, but: ${describeOutcome(outcome)}`,
      ];
    if (remember && outcome.t === 'answered') this.#words.set(remember, outcome.by);
    return [];
  }

  async #close(name: string): Promise<string[]> {
    await this.#flows.get(name)?.[Symbol.asyncDispose]();
    return this.#flows.delete(name) ? [] : [`no flow "${name}" is open`];
  }

  async #serve({ at, port, over = 'TCP', as, ip }: StepOf<'serve'>): Promise<string[]> {
    const { lab, families } = this.#telling;
    for (const family of families)
      await lab.serveOn({ at, port, transport: over, ip: ip ?? lab.place(at).addresses[family], ...(as && { as }) });
    return [];
  }

  /**
   * What a daemon answers over HTTP follows its acknowledgement by a moment, and nothing tells of it; so a wrong answer is asked
   * for again, for a while.
   */
  async #http(step: StepOf<'http'>): Promise<string[]> {
    const until = Date.now() + httpPatienceMs;
    for (;;) {
      const problems = await this.#httpOnce(step);
      if (problems.length === 0 || Date.now() > until) return problems;
      await new Promise((resolve) => setTimeout(resolve, httpPatienceMs / 50));
    }
  }

  async #httpOnce({ from, get, status, body, headers }: StepOf<'http'>): Promise<string[]> {
    const slash = get.indexOf('/');
    const { ip, port } = parseTarget(get.slice(0, slash));
    let response: HttpAnswer;
    try {
      response = await httpGet(this.#telling.lab.place(from), ip, port, get.slice(slash));
    } catch (error) {
      return [`GET ${get}: ${error instanceof Error ? error.message : String(error)}`];
    }
    const problems: string[] = [];
    if (response.status !== status)
      problems.push(`GET ${get}: expected status ${status}, but it was ${response.status}`);
    if (body && !isPartOf(body, parseJson(response.body)))
      problems.push(`GET ${get}: expected ${JSON.stringify(body)}, got ${response.body}`);
    for (const [name, value] of Object.entries(headers ?? {}))
      if (response.headers[name.toLowerCase()] !== String(value))
        problems.push(`GET ${get}: expected header ${name}: ${value}, got ${response.headers[name.toLowerCase()]}`);
    return problems;
  }

  #nobodyListens({ on, port }: StepOf<'nobodyListens'>): string[] {
    return this.#telling.lab.within(on, () => listensOn(port)) ? [`somebody listens on port ${port} of ${on}`] : [];
  }

  #sysctl({ on, name, is, atLeast }: StepOf<'sysctl'>): string[] {
    const file = `/proc/sys/${name.replaceAll('.', '/')}`;
    const value = Number(this.#telling.lab.within(on, () => readFileSync(file, 'utf8')));
    const right = (is === undefined || value === is) && (atLeast === undefined || value >= atLeast);
    return right ? [] : [`${name} on ${on} is ${value}, expected ${is ?? `at least ${atLeast}`}`];
  }

  async #restart(names: readonly string[]): Promise<string[]> {
    for (const name of names) {
      const daemon = name === 'controller' ? this.#telling.cluster.controller : this.#telling.cluster.node(name);
      await daemon.stop('SIGKILL');
      daemon.start();
    }
    this.#unsettled = true;
    return [];
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Not JSON is an answer too, and is compared as what it is.
    return text;
  }
}

/** Is everything that is expected there? More may be. */
function isPartOf(expected: unknown, actual: unknown): boolean {
  if (typeof expected !== 'object' || expected === null) return expected === actual;
  if (typeof actual !== 'object' || actual === null) return false;
  return Object.entries(expected).every(([key, value]) => isPartOf(value, (actual as Record<string, unknown>)[key]));
}
