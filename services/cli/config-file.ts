import { readFileSync } from 'node:fs';
import type { Command, Option } from 'commander';
import { type Document, LineCounter, parseDocument } from 'yaml';
import { usageError } from './errors.ts';
import { isKubeProxyConfiguration, readKubeProxyConfiguration } from './kube-proxy/read.ts';

/** What of a file does not count, for the log. */
export interface Disregarded {
  readonly ignored: readonly { readonly field: string; readonly why: string }[];
  readonly unknown: readonly string[];
}

/**
 * --config FILE: Octoplane's own YAML, flag names in camelCase as keys (`nodeName: a`, `clusterCidr: [10.244.0.0/16]`). A key
 * counts only where neither flag nor environment sets it. Unknown keys are refused by name: a typo must not be silence.
 *
 * `octoplane node` also takes a KubeProxyConfiguration. Its unknown fields are named and passed over, as kube-proxy does.
 */
export function applyConfigFile(command: Command, file: string): Disregarded {
  const { document, lines } = readConfig(file);
  if (isKubeProxyConfiguration(document)) {
    if (command.name() !== 'node')
      throw usageError(`${file} is a KubeProxyConfiguration: only octoplane node reads it`);
    const { flags, ...disregarded } = readKubeProxyConfiguration(file, document, lines);
    for (const [flag, { value, place }] of flags) apply(command, flag, value, place);
    return disregarded;
  }
  for (const [key, value] of Object.entries(settingsIn(document, file))) {
    const known = command.options.some((candidate) => candidate.attributeName() === key) && key !== 'config';
    if (!known) throw usageError(`${file}: unknown key "${key}"; known are ${knownKeys(command).join(', ')}`);
    apply(command, key, value, file);
  }
  return { ignored: [], unknown: [] };
}

function apply(command: Command, key: string, value: unknown, place: string): void {
  const option = command.options.find((candidate) => candidate.attributeName() === key);
  if (!option) throw new RangeError(`${command.name()} has no flag for ${key}`);
  const source = command.getOptionValueSource(key);
  if (source === undefined || source === 'default')
    command.setOptionValueWithSource(key, parsed(option, value, place), 'config');
}

function readConfig(file: string): { readonly document: Document.Parsed; readonly lines: LineCounter } {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw usageError(`--config ${file} cannot be read: ${cause instanceof Error ? cause.message : cause}`);
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const [problem] = document.errors;
  if (problem) {
    const { line, col } = lines.linePos(problem.pos[0]);
    throw usageError(`${file}:${line}:${col}: ${problem.message}`);
  }
  return { document, lines };
}

function settingsIn(document: Document.Parsed, file: string): Record<string, unknown> {
  const content: unknown = document.toJS();
  if (content === null || content === undefined) return {};
  if (typeof content !== 'object' || Array.isArray(content)) throw usageError(`${file}: is not a map of settings`);
  return content as Record<string, unknown>;
}

const knownKeys = (command: Command): string[] =>
  command.options.map((option) => option.attributeName()).filter((key) => !['config', 'help'].includes(key));

/** The same parser as the flag's, so that a file cannot say what a flag could not. */
function parsed(option: Option, value: unknown, file: string): unknown {
  if (option.isBoolean()) {
    if (typeof value !== 'boolean') throw usageError(`${file}: ${option.attributeName()} is true or false`);
    return value;
  }
  const texts = (Array.isArray(value) ? value : [value]).map(String);
  try {
    return texts.reduce<unknown>(
      (previous, text) => (option.parseArg ? option.parseArg(text, previous) : text),
      undefined,
    );
  } catch (cause) {
    throw usageError(`${file}: ${option.attributeName()}: ${cause instanceof Error ? cause.message : cause}`);
  }
}
