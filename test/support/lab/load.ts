import { setImmediate as turn } from 'node:timers/promises';
import { describeOutcome, type Outcome, outcomeOf } from './outcome.ts';
import { dialTcp, TcpConnection } from './tcp.ts';
import { dialUdp, UdpFlow } from './udp.ts';
import type { LoadReport, LoadRequest } from './verbs.ts';

/**
 * A UDP client asks again after this, as resolvers do: the flows of an endpoint that is removed are ended (kube-proxy does so,
 * too), and an answer that is under way at that moment is lost.
 */
const resendMs = 500;

/** A client that never pauses: one request after the other on every worker, until it is stopped. */
export class Load {
  readonly #netns: string;
  readonly #request: LoadRequest;
  readonly #workers: Promise<void>[] = [];
  readonly #answers: Record<string, number> = {};
  readonly #firstFailures: string[] = [];
  readonly #milestones: { readonly requests: number; resolve(): void }[] = [];
  #connections = 0;
  #requests = 0;
  #failures = 0;
  #stopping = false;

  constructor(netns: string, request: LoadRequest) {
    this.#netns = netns;
    this.#request = request;
  }

  start(): void {
    for (let i = 0; i < this.#request.fresh; i++) this.#workers.push(this.#openAgainAndAgain());
    for (let i = 0; i < this.#request.kept; i++) this.#workers.push(this.#keepAsking());
  }

  report(): LoadReport {
    return {
      connections: this.#connections,
      requests: this.#requests,
      failures: this.#failures,
      firstFailures: this.#firstFailures,
      answers: this.#answers,
    };
  }

  /** Resolves once so many requests have ended, well or not. */
  reached(requests: number): Promise<void> {
    if (this.#requests >= requests) return Promise.resolve();
    return new Promise((resolve) => this.#milestones.push({ requests, resolve }));
  }

  /** Lets requests in flight end. */
  async stop(): Promise<LoadReport> {
    this.#stopping = true;
    await Promise.all(this.#workers);
    return this.report();
  }

  async #openAgainAndAgain(): Promise<void> {
    const { ip, port, timeoutMs, transport, bytes = 1, connected = false } = this.#request;
    const target = { ip, port, timeoutMs, bytes, bindPort: 0 };
    while (!this.#stopping) {
      this.#connections++;
      const dialled =
        transport === 'TCP' ? dialTcp(this.#netns, target) : dialUdp(this.#netns, { ...target, connected, resendMs });
      await this.#count(await dialled, 'a new connection');
    }
  }

  /** A kept connection that fails is replaced, so that one failure is counted once. */
  async #keepAsking(): Promise<void> {
    while (!this.#stopping) {
      this.#connections++;
      let flow: TcpConnection | UdpFlow;
      try {
        flow = this.#openFlow();
      } catch (error) {
        await this.#count(outcomeOf(error), 'a new connection');
        continue;
      }
      let healthy = true;
      while (healthy && !this.#stopping) {
        const outcome = await flow.ask(this.#request.timeoutMs, this.#request.bytes ?? 1, resendMs);
        await this.#count(outcome, 'a kept connection');
        healthy = outcome.t === 'answered';
      }
      await flow.close();
    }
  }

  #openFlow(): TcpConnection | UdpFlow {
    const { ip, port, transport, connected = false } = this.#request;
    return transport === 'TCP'
      ? new TcpConnection(this.#netns, { ip, port, bindPort: 0 })
      : new UdpFlow(this.#netns, { ip, port, bindPort: 0, connected });
  }

  async #count(outcome: Outcome, on: string): Promise<void> {
    this.#requests++;
    for (const milestone of this.#milestones) if (milestone.requests === this.#requests) milestone.resolve();
    if (outcome.t === 'answered') {
      this.#answers[outcome.by] = (this.#answers[outcome.by] ?? 0) + 1;
      return;
    }
    this.#failures++;
    if (this.#firstFailures.length < 10)
      this.#firstFailures.push(
        `request ${this.#requests}, on ${on}, at ${new Date().toISOString()}: ${describeOutcome(outcome)}`,
      );
    // The kernel may refuse within the system call; then nothing else has let the event loop turn.
    await turn();
  }
}
