import { type Runner, run } from '../drivers/programs.ts';

/**
 * Keeps the connections that netfilter translates when nobody's rules ask for that any more. The kernel tracks connections, and goes
 * on with the translations that it has begun, only as long as some rule of the network namespace needs either (nf_ct_netns_get, and a
 * chain of type nat): with the last one established connections lose their addresses. So one rule that does nothing stays.
 */
export class ConnectionKeeper {
  readonly #run: Runner;

  constructor(runner: Runner = run) {
    this.#run = runner;
  }

  /** Idempotent. @throws Error when neither nft nor iptables can do it */
  async install(): Promise<void> {
    const problems: unknown[] = [];
    const tried = async (attempt: () => Promise<string | null>): Promise<boolean> => {
      try {
        return (await attempt()) !== null;
      } catch (error) {
        problems.push(error);
        return false;
      }
    };
    if (await tried(() => this.#run('nft', ['-f', '-'], table))) return;
    let installed = false;
    for (const command of commands) installed = (await tried(() => this.#addRule(command))) || installed;
    if (!installed)
      throw new Error('no netfilter rule can be written here: install nftables or iptables', {
        cause: new AggregateError(problems),
      });
  }

  /** What is absent stays absent. */
  async remove(): Promise<void> {
    const tables = await this.#run('nft', ['list', 'tables']);
    if (tables?.split('\n').includes(`table inet ${tableName}`))
      await this.#run('nft', ['delete', 'table', 'inet', tableName]);
    for (const command of commands) await this.#removeRule(command);
  }

  async #addRule(command: string): Promise<string | null> {
    await this.#removeRule(command);
    return this.#run(command, ['-w', '10', ...rule('-A')]);
  }

  async #removeRule(command: string): Promise<void> {
    const saved = await this.#run(`${command}-save`, []);
    if (saved?.includes(note)) await this.#run(command, ['-w', '10', ...rule('-D')]);
  }
}

const tableName = 'octoplane-connections';
const note = 'octoplane: connections of the driver before go on';

const table = `table inet ${tableName} {
  comment "${note}"
  chain keep { type nat hook postrouting priority srcnat; policy accept; }
}
flush chain inet ${tableName} keep
add rule inet ${tableName} keep ct status dnat return
`;

const commands = ['iptables', 'ip6tables'] as const;
/** Without a target a rule is only looked at. */
const rule = (action: '-A' | '-D'): readonly string[] => [
  ...['-t', 'nat', action, 'POSTROUTING', '-m', 'conntrack', '--ctstate', 'DNAT'],
  ...['-m', 'comment', '--comment', note],
];
