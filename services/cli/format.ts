/** Quantities as people read them. */
import type { Cause } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import type { Version } from '@octoplane/model/gen/octoplane/v1/stream.ts';

/** "340 us", "1.2 ms", "4.5 s", "3 min"; "-" for 0, which stands for "not known". */
export function duration(us: number): string {
  if (us === 0) return '-';
  if (us < 1_000) return `${us} us`;
  if (us < 100_000) return `${(us / 1_000).toFixed(1)} ms`;
  if (us < 1_000_000) return `${Math.round(us / 1_000)} ms`;
  if (us < 60_000_000) return `${(us / 1_000_000).toFixed(1)} s`;
  return age(us / 1_000);
}

/** "12s", "3m", "5h", "2d". */
export function age(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3_600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

export const since = (ms: number): string => (ms === 0 ? '-' : `${age(Date.now() - ms)} ago`);

export const sequence = (version: Version | undefined): string =>
  version === undefined || version.epoch === 0 ? '-' : String(version.sequence);

export const clockTime = (us: number): string => new Date(us / 1_000).toISOString().slice(11, 23);

/** Which object, at which revision of which cluster. */
export const causeText = ({ source, object, revision }: Cause): string => `${object} at ${revision} of ${source}`;

export const orDash = (text: string): string => (text === '' ? '-' : text);
