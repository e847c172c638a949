import type { Hook } from './frame.ts';
import { isOurs } from './names.ts';

/** Our part of a table as iptables-save (or -S) prints it. */
export interface SavedTable {
  readonly chains: Map<string, string[]>;
  /** Rules in other chains that lead into ours, in order. */
  readonly hooks: Hook[];
  /** Rules of others. */
  foreignRules: number;
}

/** Reads what is ours, and counts the rest. Lines begin with ":CHAIN" or "-N CHAIN" for a chain and "-A CHAIN" for a rule. */
export function parseSaved(text: string): SavedTable {
  const table: SavedTable = { chains: new Map(), hooks: [], foreignRules: 0 };
  let current = { name: '', rules: [] as string[] };
  let start = 0;
  while (start < text.length) {
    const newline = text.indexOf('\n', start);
    const end = newline < 0 ? text.length : newline;
    const first = text[start];
    if (first === ':' || text.startsWith('-N ', start)) {
      const name = word(text, first === ':' ? start + 1 : start + 3, end);
      if (isOurs(name) && !table.chains.has(name)) table.chains.set(name, []);
    } else if (text.startsWith('-A ', start)) {
      const name = word(text, start + 3, end);
      const rule = text.slice(Math.min(start + 4 + name.length, end), end);
      if (current.name !== name) current = { name, rules: table.chains.get(name) ?? [] };
      if (isOurs(name)) current.rules.push(rule);
      else if (leadsToUs.test(rule)) table.hooks.push({ chain: name, rule });
      else table.foreignRules++;
    }
    start = end + 1;
  }
  return table;
}

const leadsToUs = / ?-[jg] OCTO-\S+$/;

function word(text: string, from: number, end: number): string {
  const space = text.indexOf(' ', from);
  return text.slice(from, space < 0 || space > end ? end : space);
}
