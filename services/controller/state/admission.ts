import type { ServiceName } from '@octoplane/model/keys.ts';
import type { Claim } from './claims.ts';

/** Who goes first: the smaller creation time, then who came first, then the earlier source, then the name. */
export interface Rank {
  /** Infinity where it is not known: a Service of known age keeps its address. */
  readonly createdAtMs: number;
  /** For those whose age is not known: in which round they came. Equal for all that were there at the start. */
  readonly round: number;
  readonly source: number;
}

interface Candidate {
  readonly name: ServiceName;
  readonly rank: Rank;
  readonly claims: readonly Claim[];
  verdict: Verdict;
  queued: boolean;
}

export type Verdict =
  | { readonly t: 'admitted' }
  | { readonly t: 'refused'; readonly claim: Claim; readonly holder: ServiceName };

const admitted: Verdict = { t: 'admitted' };

/**
 * Decides between Services that claim the same address or port: in the order of their ranks, each is admitted unless
 * an admitted one before it holds one of its claims. A refused Service holds nothing.
 *
 * The outcome is a function of the candidates and their ranks, whatever the order of the calls, so that every replica refuses the
 * same ones. A change is worked off among those who share claims with it; nobody else is looked at.
 */
export class Admission {
  readonly #candidates = new Map<ServiceName, Candidate>();
  readonly #claimants = new Map<Claim, Set<Candidate>>();
  readonly #holders = new Map<Claim, Candidate>();
  /** To be judged anew, the first in rank at the end: a verdict depends only on those before it. May name some that are gone. */
  readonly #pending: Candidate[] = [];

  verdict(name: ServiceName): Verdict | null {
    return this.#candidates.get(name)?.verdict ?? null;
  }

  /** Is the claim of nobody, `except` left aside? Refused Services count: what they name is not handed out. */
  isFree(claim: Claim, except: ServiceName): boolean {
    const claimants = this.#claimants.get(claim);
    if (claimants === undefined) return true;
    for (const { name } of claimants) if (name !== except) return false;
    return true;
  }

  /** Who has what the claim is about. */
  holderOf(claim: Claim): ServiceName | null {
    return this.#holders.get(claim)?.name ?? null;
  }

  /** Replaces one candidate, or takes it away. Verdicts follow with `settle`. */
  replace(name: ServiceName, next: { readonly rank: Rank; readonly claims: readonly Claim[] } | null): void {
    const before = this.#candidates.get(name);
    if (before) this.#withdraw(before);
    if (next === null) {
      this.#candidates.delete(name);
      return;
    }
    const candidate: Candidate = { name, ...next, verdict: before?.verdict ?? admitted, queued: false };
    this.#candidates.set(name, candidate);
    for (const claim of candidate.claims) {
      const claimants = this.#claimants.get(claim);
      if (claimants) claimants.add(candidate);
      else this.#claimants.set(claim, new Set([candidate]));
    }
    this.#push(candidate);
  }

  /** Judges what was replaced and what depends on it; the answer names those whose verdict is another than before. */
  settle(): Set<ServiceName> {
    const turned = new Set<ServiceName>();
    for (let next = this.#pending.pop(); next; next = this.#pending.pop()) {
      next.queued = false;
      if (this.#candidates.get(next.name) !== next) continue;
      const before = next.verdict;
      next.verdict = this.#judge(next);
      if (next.verdict.t === 'admitted') this.#hold(next);
      else this.#release(next);
      if (!sameVerdict(before, next.verdict)) turned.add(next.name);
    }
    return turned;
  }

  #judge(candidate: Candidate): Verdict {
    for (const claim of candidate.claims) {
      const holder = this.#holders.get(claim);
      if (holder && holder !== candidate && precedes(holder, candidate))
        return { t: 'refused', claim, holder: holder.name };
    }
    return admitted;
  }

  #hold(candidate: Candidate): void {
    for (const claim of candidate.claims) {
      const evicted = this.#holders.get(claim);
      if (evicted && evicted !== candidate) this.#push(evicted);
      this.#holders.set(claim, candidate);
    }
  }

  /** Those who come after it in rank may now have what it held. */
  #release(candidate: Candidate): void {
    for (const claim of candidate.claims) {
      if (this.#holders.get(claim) !== candidate) continue;
      this.#holders.delete(claim);
      for (const other of this.#claimants.get(claim) ?? []) if (precedes(candidate, other)) this.#push(other);
    }
  }

  #withdraw(candidate: Candidate): void {
    for (const claim of candidate.claims) {
      const claimants = this.#claimants.get(claim);
      claimants?.delete(candidate);
      if (claimants?.size === 0) this.#claimants.delete(claim);
    }
    this.#release(candidate);
  }

  #push(candidate: Candidate): void {
    if (candidate.queued) return;
    candidate.queued = true;
    let low = 0;
    let high = this.#pending.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = this.#pending[middle];
      if (other && precedes(candidate, other)) low = middle + 1;
      else high = middle;
    }
    this.#pending.splice(low, 0, candidate);
  }
}

function precedes(a: Candidate, b: Candidate): boolean {
  if (a.rank.createdAtMs !== b.rank.createdAtMs) return a.rank.createdAtMs < b.rank.createdAtMs;
  if (a.rank.round !== b.rank.round) return a.rank.round < b.rank.round;
  if (a.rank.source !== b.rank.source) return a.rank.source < b.rank.source;
  return a.name < b.name;
}

function sameVerdict(a: Verdict, b: Verdict): boolean {
  if (a.t === 'admitted' || b.t === 'admitted') return a.t === b.t;
  return a.claim === b.claim && a.holder === b.holder;
}
