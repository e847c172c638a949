import { dirname, isAbsolute, resolve } from 'node:path';
import { type Fields, Findings, formatProblem, isFields, type Path } from '@octoplane/model/findings.ts';
import { parse } from 'yaml';
import type { ExecConfig } from './exec-plugin.ts';

/** A context of a kubeconfig with its cluster and user; files by their absolute paths, unread. */
export interface KubeContext {
  readonly name: string;
  readonly server: string;
  readonly ca: Material | null;
  readonly servername: string | null;
  readonly unverified: boolean;
  readonly proxyUrl: string | null;
  readonly user: KubeUser;
}

export interface KubeUser {
  readonly cert: Material | null;
  readonly key: Material | null;
  readonly token: string | null;
  readonly tokenFile: string | null;
  readonly exec: ExecConfig | null;
  readonly basic: { readonly username: string; readonly password: string } | null;
  readonly impersonate: Readonly<Record<string, readonly string[]>>;
}

/** PEM itself, or where it is. */
export type Material = { readonly t: 'data'; readonly pem: string } | { readonly t: 'file'; readonly path: string };

export interface ConfigText {
  readonly path: string;
  readonly text: string;
}

/**
 * The context of that name (empty: the current one) in files that are read as kubectl reads KUBECONFIG: of two entries of one name the
 * first counts, and relative paths are relative to their file. Pure.
 * @throws Error that says what is wrong with which file.
 */
export function readKubeconfig(files: readonly ConfigText[], contextName: string): KubeContext {
  const where = files.map(({ path }) => path).join(', ');
  const configs = files.map(parseConfig);
  const named = contextName || configs.map(({ current }) => current).find((name) => name !== '') || '';
  if (named === '') throw new Error(`${where} has no current-context; name one, as in --source kubernetes:CONTEXT`);
  const context = find(configs, 'contexts', named);
  if (context === null) {
    const known = configs.flatMap(({ contexts }) => [...contexts.keys()]);
    throw new Error(`${where} has no context ${named}; it has ${known.join(', ') || 'none at all'}`);
  }
  const clusterName = textAt(context.fields, 'cluster');
  const userName = textAt(context.fields, 'user');
  const cluster = find(configs, 'clusters', clusterName);
  if (cluster === null)
    throw new Error(`${context.path}: context ${named} names cluster ${clusterName}, which is not there`);
  const user = userName === '' ? null : find(configs, 'users', userName);
  if (userName !== '' && user === null)
    throw new Error(`${context.path}: context ${named} names user ${userName}, which is not there`);
  return { name: named, ...clusterOf(cluster, clusterName), user: userOf(user, cluster) };
}

interface Entry {
  readonly path: string;
  readonly fields: Fields;
}

type Section = 'clusters' | 'users' | 'contexts';

interface Config extends Readonly<Record<Section, ReadonlyMap<string, Entry>>> {
  readonly current: string;
}

/** Name of the member in which an entry of a section has its content. */
const members: Readonly<Record<Section, string>> = { clusters: 'cluster', users: 'user', contexts: 'context' };

function parseConfig({ path, text }: ConfigText): Config {
  let document: unknown;
  try {
    document = parse(text);
  } catch (cause) {
    throw new Error(`${path} is not YAML: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  if (!isFields(document)) throw new Error(`${path} is not a kubeconfig`);
  const findings = new Findings();
  const section = (name: Section): ReadonlyMap<string, Entry> => {
    const entries = new Map<string, Entry>();
    findings.list(document, name, []).forEach((value, i) => {
      const at: Path = [name, i];
      const item = findings.item(value, at);
      const key = findings.text(item, 'name', at);
      if (!entries.has(key)) entries.set(key, { path, fields: findings.fields(item, members[name], at) });
    });
    return entries;
  };
  const current = findings.text(document, 'current-context', []);
  const config = { current, clusters: section('clusters'), users: section('users'), contexts: section('contexts') };
  const [problem] = findings.problems;
  if (problem) throw new Error(`${path}: ${formatProblem(problem)}`);
  return config;
}

function find(configs: readonly Config[], section: Section, name: string): Entry | null {
  for (const config of configs) {
    const entry = config[section].get(name);
    if (entry) return entry;
  }
  return null;
}

function clusterOf({ path, fields }: Entry, name: string): Omit<KubeContext, 'name' | 'user'> {
  const server = textAt(fields, 'server').replace(/\/+$/, '');
  if (!/^https?:\/\//.test(server) || !URL.canParse(server))
    throw new Error(`${path}: server of cluster ${name} is no URL such as https://10.0.0.1:6443`);
  const proxyUrl = textAt(fields, 'proxy-url');
  if (proxyUrl !== '' && !/^https?:\/\//.test(proxyUrl))
    throw new Error(`${path}: proxy-url of cluster ${name} is no http or https proxy; other kinds are not supported`);
  return {
    server,
    ca: materialOf(path, fields, 'certificate-authority'),
    servername: textAt(fields, 'tls-server-name') || null,
    unverified: fields['insecure-skip-tls-verify'] === true,
    proxyUrl: proxyUrl || null,
  };
}

function userOf(entry: Entry | null, cluster: Entry): KubeUser {
  const { path, fields } = entry ?? { path: '', fields: {} };
  if (isFields(fields['auth-provider']))
    throw new Error(`${path}: auth-provider is not supported; use exec with a credential plugin, such as kubelogin`);
  const username = textAt(fields, 'username');
  const tokenFile = textAt(fields, 'tokenFile');
  return {
    cert: materialOf(path, fields, 'client-certificate'),
    key: materialOf(path, fields, 'client-key'),
    token: textAt(fields, 'token') || null,
    tokenFile: tokenFile === '' ? null : resolve(dirname(path), tokenFile),
    exec: isFields(fields['exec']) ? execOf(path, fields['exec'], cluster) : null,
    basic: username === '' ? null : { username, password: textAt(fields, 'password') },
    impersonate: impersonationOf(fields),
  };
}

function materialOf(path: string, fields: Fields, name: string): Material | null {
  const data = textAt(fields, `${name}-data`);
  if (data !== '') return { t: 'data', pem: Buffer.from(data, 'base64').toString('utf8') };
  const file = textAt(fields, name);
  return file === '' ? null : { t: 'file', path: resolve(dirname(path), file) };
}

function execOf(path: string, fields: Fields, cluster: Entry): ExecConfig {
  const command = textAt(fields, 'command');
  if (command === '') throw new Error(`${path}: exec has no command`);
  const apiVersion = textAt(fields, 'apiVersion');
  if (!/^client\.authentication\.k8s\.io\/v1(beta1)?$/.test(apiVersion))
    throw new Error(`${path}: exec has apiVersion "${apiVersion}"; use client.authentication.k8s.io/v1 or v1beta1`);
  const isPath = command.includes('/') && !isAbsolute(command);
  return {
    apiVersion,
    command: isPath ? resolve(dirname(path), command) : command,
    args: listAt(fields, 'args').filter((arg) => typeof arg === 'string'),
    env: Object.fromEntries(
      listAt(fields, 'env').flatMap((item) =>
        isFields(item) && textAt(item, 'name') !== '' ? [[textAt(item, 'name'), textAt(item, 'value')]] : [],
      ),
    ),
    installHint: textAt(fields, 'installHint').trim(),
    cluster: fields['provideClusterInfo'] === true ? cluster.fields : null,
  };
}

/** as, as-uid, as-groups, as-user-extra: as the headers that they become. */
function impersonationOf(fields: Fields): Readonly<Record<string, readonly string[]>> {
  const texts = (value: unknown): string[] => (Array.isArray(value) ? value : [value]).filter(isText);
  const headers: Record<string, readonly string[]> = {
    'Impersonate-User': texts(fields['as']),
    'Impersonate-Uid': texts(fields['as-uid']),
    'Impersonate-Group': texts(fields['as-groups']),
  };
  const extra = isFields(fields['as-user-extra']) ? fields['as-user-extra'] : {};
  for (const [key, value] of Object.entries(extra))
    headers[`Impersonate-Extra-${encodeURIComponent(key)}`] = texts(value);
  return Object.fromEntries(Object.entries(headers).filter(([, values]) => values.length > 0));
}

const isText = (value: unknown): value is string => typeof value === 'string' && value !== '';

function textAt(fields: Fields, key: string): string {
  const value = fields[key];
  return typeof value === 'string' ? value : '';
}

function listAt(fields: Fields, key: string): readonly unknown[] {
  const value = fields[key];
  return Array.isArray(value) ? value : [];
}
