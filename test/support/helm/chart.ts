import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { parseAllDocuments, stringify } from 'yaml';

const root = join(import.meta.dirname, '../../..');
export const chartDirectory = join(root, 'deploy/helm/octoplane');

export interface Rendered {
  readonly text: string;
  readonly documents: readonly KubernetesObject[];
}

export interface KubernetesObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly [field: string]: unknown;
}

/** The chart with these values, by the template engine that Helm has (render.go). @throws Error with what the chart says */
export function renderChart(values: object, namespace = 'kube-system'): Rendered {
  const env = { ...process.env, GO111MODULE: 'off', GOPATH: '/usr/share/gocode' };
  const args = ['run', join(import.meta.dirname, 'render.go'), chartDirectory, namespace];
  const { status, stdout, stderr, error } = spawnSync('go', args, { input: stringify(values), encoding: 'utf8', env });
  if (error) throw error;
  if (status !== 0) throw new Error(stderr);
  const documents = parseAllDocuments(stdout).map((document) => {
    if (document.errors[0]) throw document.errors[0];
    return document.toJS() as KubernetesObject;
  });
  return { text: stdout, documents };
}
