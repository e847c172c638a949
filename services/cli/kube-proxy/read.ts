import { type Document, isMap, isScalar, type LineCounter, type Node, type YAMLMap } from 'yaml';
import { usageError } from '../errors.ts';
import { type Field, type Fields, fieldsFor, type Mode } from './fields.ts';

/** What a KubeProxyConfiguration says to `octoplane node`. */
export interface KubeProxySettings {
  /** Text that a flag takes, or the truth of one that takes none, by flag. */
  readonly flags: ReadonlyMap<string, Setting>;
  readonly ignored: readonly { readonly field: string; readonly why: string }[];
  /** Fields that kube-proxy does not know either. */
  readonly unknown: readonly string[];
}

export interface Setting {
  readonly value: string | boolean;
  /** "FILE:LINE: FIELD". */
  readonly place: string;
}

const group = 'kubeproxy.config.k8s.io';

export const isKubeProxyConfiguration = (document: Document.Parsed): boolean =>
  document.get('kind') === 'KubeProxyConfiguration' || String(document.get('apiVersion') ?? '').startsWith(`${group}/`);

/** @throws UsageError with the place of a value that means nothing */
export function readKubeProxyConfiguration(
  file: string,
  document: Document.Parsed,
  lines: LineCounter,
): KubeProxySettings {
  const flags = new Map<string, Setting>();
  const ignored: { field: string; why: string }[] = [];
  const unknown: string[] = [];
  const placeOf = (node: unknown, field: string) => {
    const start = (node as Node | null)?.range?.[0];
    return start === undefined ? `${file}: ${field}` : `${file}:${lines.linePos(start).line}: ${field}`;
  };

  const version = document.get('apiVersion');
  if (version !== `${group}/v1alpha1` || document.get('kind') !== 'KubeProxyConfiguration')
    throw usageError(
      `${file}: apiVersion ${version} and kind ${document.get('kind')}: write ${group}/v1alpha1 and KubeProxyConfiguration`,
    );

  const readField = (path: string, field: Field | undefined, key: unknown, value: unknown, plain: unknown): void => {
    if (field === undefined) unknown.push(path);
    else if (field.t === 'section') {
      if (isMap(value)) readMap(`${path}.`, field.fields, value);
      else if (plain !== null) throw usageError(`${placeOf(key, path)} is a map`);
    } else if (isZero(plain) && !(field.t === 'flag' && typeof plain !== 'object' && plain !== '')) return;
    else if (field.t === 'ignored') ignored.push({ field: path, why: field.why });
    else {
      const words = field.words(plain);
      if (words.t === 'wrong')
        throw usageError(`${placeOf(key, path)} is ${JSON.stringify(plain)}: write ${words.wanted}`);
      if (words.text !== null) flags.set(field.flag, { value: words.text, place: placeOf(key, path) });
    }
  };
  const readMap = (prefix: string, fields: Fields, map: YAMLMap): void => {
    for (const { key, value } of map.items) {
      const name = isScalar(key) ? String(key.value) : String(key);
      if (prefix === '' && (name === 'apiVersion' || name === 'kind')) continue;
      const plain: unknown = isScalar(value) ? value.value : value === null ? null : (value as Node).toJS(document);
      readField(`${prefix}${name}`, fields[name], key, value, plain);
    }
  };
  if (isMap(document.contents)) readMap('', fieldsFor(modeOf(document)), document.contents);
  joinDetectLocal(flags);
  return { flags, ignored, unknown };
}

/** Which of the sections counts; kube-proxy's own default is iptables. */
function modeOf(document: Document.Parsed): Mode {
  const mode = document.get('mode');
  return mode === 'ipvs' || mode === 'nftables' ? mode : 'iptables';
}

/** Values that say nothing, whatever the field: kubeadm writes them all. */
function isZero(value: unknown): boolean {
  if (value === null || value === undefined || value === '' || value === 0 || value === false) return true;
  if (typeof value === 'string') return /^0+[a-z]*$/.test(value);
  if (typeof value === 'object') return Object.values(value).every(isZero);
  return false;
}

/** Two fields are one flag here: how pods are told, and by what. */
function joinDetectLocal(flags: Map<string, Setting>): void {
  const mode = flags.get('detectLocal');
  const bridge = flags.get('bridgeInterface');
  const prefix = flags.get('interfaceNamePrefix');
  for (const name of ['detectLocal', 'bridgeInterface', 'interfaceNamePrefix']) flags.delete(name);
  if (mode === undefined) return;
  const [name, word] = mode.value === 'BridgeInterface' ? [bridge, 'bridge'] : [prefix, 'prefix'];
  if (name === undefined)
    throw usageError(
      `${mode.place} is ${mode.value}: write detectLocal.${word === 'bridge' ? 'bridgeInterface' : 'interfaceNamePrefix'}, too`,
    );
  flags.set('detectLocal', { value: `${word}:${name.value}`, place: name.place });
  flags.delete('clusterCidr');
}
