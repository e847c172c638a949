import type { IncomingMessage, ServerResponse } from 'node:http';
import { type Cidr, canonicalIp, cidrContains, type Ip } from '@octoplane/model/address.ts';
import { EndpointGoal } from '../acks/endpoint-goal.ts';
import type { EndpointIndex } from '../acks/endpoint-index.ts';
import { type EndpointTarget, formatEndpointTarget } from '../acks/endpoint-target.ts';
import { type FollowSurroundings, follow } from '../acks/follow.ts';
import { whyLate } from '../acks/goal.ts';
import type { KernelKnowledge } from '../acks/kernel-entries.ts';
import { neverConnected } from '../acks/lateness.ts';
import { parseSelectors } from '../acks/selectors.ts';
import type { WaitProgress } from '../acks/wait.ts';
import { type Answer, type Question, questionOf } from './gate-question.ts';

export interface GateDependencies extends FollowSurroundings, KernelKnowledge {
  readonly endpoints: EndpointIndex;
  /** ControllerOptions.gateClients */
  readonly clients: readonly Cidr[];
  /** Not ControllerOptions.gatesKnowAll. Nobody reads the names of nodes that are not counted in the answer to a hook. */
  readonly everyNode: boolean;
  readonly signal: AbortSignal;
}

/** Calls that wait at once. Each is a socket and the set of its late nodes; more than a large rollout makes. */
const mostCalls = 10_000;

/**
 * GET /gone and GET /programmed, for hooks of the endpoints themselves: they block until it is true, and answer 200; or 504 after `timeout`, with
 * the late nodes by name.
 *
 *   endpoint=IP:PORT | IP    default: the caller's address
 *   port=PORT                of the caller's address
 *   service=NAMESPACE/NAME   default: all
 *   timeout=25s   ignore-gone=10m: do not count nodes that have been disconnected for so long
 *
 * There are no credentials in a preStop hook. So whoever asks may ask about himself: the endpoint is the address that he calls from, which
 * a TCP connection proves. This machine may ask about any, and so may the networks of --gate-clients. An answer
 * tells names of nodes and nothing else. AdminService.Wait is the same behind a certificate.
 */
export class Gate {
  readonly #dependencies: GateDependencies;
  #calls = 0;

  constructor(dependencies: GateDependencies) {
    this.#dependencies = dependencies;
  }

  /** False: the path is not one of these. */
  serve(url: URL, request: IncomingMessage, response: ServerResponse): boolean {
    const caller = canonicalIp((request.socket.remoteAddress ?? '').replace(/^::ffff:(?=[\d.]+$)/, ''));
    const question = questionOf(url, caller);
    if (question === null) return false;
    if ('code' in question) finish(response, question);
    else if (!this.#mayAsk(caller, question.target)) finish(response, refusal(caller, question.target));
    else if (this.#calls >= mostCalls)
      finish(response, { code: 503, text: `${mostCalls} calls wait already; try again` });
    else this.#wait(question, response);
    return true;
  }

  #mayAsk(caller: Ip | null, { ip }: EndpointTarget): boolean {
    if (caller === null) return false;
    return (
      caller === ip ||
      caller === '::1' ||
      caller.startsWith('127.') ||
      this.#dependencies.clients.some((cidr) => cidrContains(cidr, caller))
    );
  }

  #wait(question: Question, response: ServerResponse): void {
    const { history, endpoints, clock, signal, everyNode } = this.#dependencies;
    this.#calls++;
    const goal = new EndpointGoal(question, this.#dependencies, endpoints);
    const rules = {
      selection: parseSelectors([]),
      quorum: { t: 'all' } as const,
      ignoreGoneMs: question.ignoreGoneMs,
      everyNode,
    };
    const end = (code: number, text: string) => {
      following.stop();
      finish(response, { code, text });
    };
    const report = (progress: WaitProgress) => {
      end(200, `${describe(question)} on ${progress.programmed} of ${progress.nodes} nodes${notCounted(progress)}`);
      return true;
    };
    const following = follow(this.#dependencies, { goal, rules, reports: 'last', report });
    const tooLate = clock.after(question.timeoutMs, () => {
      const progress = following.progress();
      const nowUs = clock.nowUs();
      const late = progress.late.map((record) => `${record.name}: ${whyLate(goal, record, history, nowUs).words}`);
      for (const { name, hasNodeObject } of progress.unknown)
        late.push(`${name}: ${neverConnected(hasNodeObject).words}`);
      if (progress.nobody !== null) late.push(progress.nobody);
      if (progress.settlingMs > 0) late.push('the controller has just started and waits for nodes to come back');
      end(504, [`not ${describe(question)} after ${question.timeoutMs / 1000} s:`, ...late].join('\n'));
    });
    const leave = () => end(503, 'the controller is going away; ask again');
    signal.addEventListener('abort', leave);
    response.on('close', () => {
      this.#calls--;
      signal.removeEventListener('abort', leave);
      tooLate();
      following.stop();
    });
  }
}

const refusal = (caller: Ip | null, target: EndpointTarget): Answer => ({
  code: 403,
  text:
    `${caller ?? 'you'} may not ask about ${formatEndpointTarget(target)}: an endpoint may ask about itself, from its own address; ` +
    'others need --gate-clients, or octoplane wait with a certificate',
});

const describe = ({ target, state }: Question): string => `${state}: ${formatEndpointTarget(target)}`;

function notCounted({ ignored, uncounted }: WaitProgress): string {
  const names = [...ignored.map(({ name }) => name), ...uncounted];
  return names.length === 0 ? '' : `; not counted: ${names.join(', ')}`;
}

function finish(response: ServerResponse, { code, text }: Answer): void {
  if (response.headersSent) return;
  response.writeHead(code, { 'content-type': 'text/plain; charset=utf-8' });
  response.end(`${text}\n`);
}
