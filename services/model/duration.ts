const unitMs = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 } as const;

/** "500ms", "60s", "2m", "1h30m" as milliseconds; null: the text is no duration. */
export function parseDurationMs(text: string): number | null {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)];
  if (parts.length === 0 || parts.map(([part]) => part).join('') !== text) return null;
  return parts.reduce((sum, [, amount, unit]) => sum + Number(amount) * unitMs[unit as keyof typeof unitMs], 0);
}
