import { type Flavour, flavours, type Programs, plainPrograms, programsOf, type Runner } from './tools.ts';

/** What one flavour already holds. */
export interface Holdings {
  readonly programs: Programs;
  /** Chains of ours: an earlier instance of this driver used it. */
  readonly ours: boolean;
  /** Chains by which kubelet tells containers what the host uses (KEP-3178: KUBE-IPTABLES-HINT; before it the canary). */
  readonly hint: boolean;
  readonly rules: number;
}

/**
 * The flavour to use: the one that holds our rules; the one that kubelet's hint is in; the one with more rules; nft. The
 * last three are how kubernetes-sigs/iptables-wrappers chooses: mixing flavours on a host makes rules that nobody sees.
 */
export function chooseFlavour(found: readonly Holdings[]): Programs | null {
  const [best] = [...found].sort(
    (a, b) =>
      Number(b.ours) - Number(a.ours) ||
      Number(b.hint) - Number(a.hint) ||
      b.rules - a.rules ||
      flavours.indexOf(a.programs.flavour) - flavours.indexOf(b.programs.flavour),
  );
  return best?.programs ?? null;
}

export interface Search {
  readonly found: readonly Holdings[];
  /** What programs said that are installed and cannot be used. */
  readonly problems: readonly string[];
}

/** Both flavours where they are installed side by side, otherwise the one there is. Loads and changes nothing. */
export async function findHoldings(runner: Runner): Promise<Search> {
  const problems = new Set<string>();
  const found: Holdings[] = [];
  for (const flavour of flavours) {
    const holdings = await holdingsOf(runner, programsOf(flavour), problems);
    if (holdings) found.push(holdings);
  }
  if (found.length > 0) return { found, problems: [...problems] };
  const flavour = await plainFlavour(runner);
  const holdings = flavour === null ? null : await holdingsOf(runner, plainPrograms(flavour), problems);
  return { found: holdings ? [holdings] : [], problems: [...problems] };
}

async function holdingsOf(runner: Runner, programs: Programs, problems: Set<string>): Promise<Holdings | null> {
  // Without -t only tables that exist are printed, and none is made.
  const saved = await Promise.all([programs.save.IPv4, programs.save.IPv6].map((command) => runner.run(command, [])));
  const texts: string[] = [];
  for (const outcome of saved) {
    if (outcome.t === 'done') texts.push(outcome.stdout);
    if (outcome.t === 'failed') problems.add(outcome.stderr.trim());
  }
  if (texts.length === 0) return null;
  return {
    programs,
    ours: texts.some((text) => /^:OCTO-/m.test(text)),
    hint: texts.some((text) => /^:KUBE-(?:IPTABLES-HINT|KUBELET-CANARY) /m.test(text)),
    rules: texts.reduce((sum, text) => sum + (text.match(/^-A /gm)?.length ?? 0), 0),
  };
}

async function plainFlavour(runner: Runner): Promise<Flavour | null> {
  const outcome = await runner.run('iptables', ['--version']);
  if (outcome.t !== 'done') return null;
  return outcome.stdout.includes('nf_tables') ? 'nft' : 'legacy';
}
