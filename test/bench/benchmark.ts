/** A benchmark: a claim of speed as a command. It asserts nothing; it reports figures, beside what a user would pick instead. */
export interface Benchmark {
  readonly name: string;
  /** One line for the list. */
  readonly summary: string;
  /** Arguments after the name, for example `--driver iptables`, as the benchmark itself documents them. */
  run(report: Report, signal: AbortSignal, args: readonly string[]): Promise<void>;
}

export type Report = (figure: Figure) => void;

export interface Figure {
  /** "nftables, 10,000 x 10". */
  readonly case: string;
  /** "one endpoint changed, median". */
  readonly metric: string;
  readonly value: number;
  /** "ms", "MB", "bytes", "ratio" ... */
  readonly unit: string;
  /** The most it may be (with `atLeast`, the least), where design or issue names one. */
  readonly budget?: number;
  readonly atLeast?: boolean;
}

/** Undefined where there is no budget. */
export function met(figure: Figure): boolean | undefined {
  if (figure.budget === undefined) return undefined;
  return figure.atLeast ? figure.value >= figure.budget : figure.value <= figure.budget;
}
