import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { program } from '@octoplane/cli/program.ts';
import { driverNames } from '@octoplane/node/drivers/driver.ts';
import { driverRegistry } from '@octoplane/node/drivers/registry.ts';
import { DaemonSet, Deployment } from 'kubernetes-models/apps/v1';
import { NetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1';
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1';
import { ClusterRole, ClusterRoleBinding } from 'kubernetes-models/rbac.authorization.k8s.io/v1';
import { Secret, ServiceAccount } from 'kubernetes-models/v1';
import { describe, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { plainManifests } from '../../deploy/manifests.ts';
import { chartDirectory, type KubernetesObject, renderChart } from '../support/helm/chart.ts';

const deploy = join(import.meta.dirname, '../../deploy');
const read = (path: string) => readFileSync(join(deploy, path), 'utf8');
const values = {
  kubernetesApi: { host: '10.0.0.1' },
  controller: { addresses: ['10.0.0.1:12090', '[fd00::1]:12090', 'brain.example:12090'] },
};
const find = (documents: readonly KubernetesObject[], kind: string, name: string) =>
  documents.find((document) => document.kind === kind && document.metadata.name === name);

const schemas = new Map<string, new (data: never) => { validate(): void }>([
  ['apps/v1 DaemonSet', DaemonSet],
  ['apps/v1 Deployment', Deployment],
  ['networking.k8s.io/v1 NetworkPolicy', NetworkPolicy],
  ['policy/v1 PodDisruptionBudget', PodDisruptionBudget],
  ['rbac.authorization.k8s.io/v1 ClusterRole', ClusterRole],
  ['rbac.authorization.k8s.io/v1 ClusterRoleBinding', ClusterRoleBinding],
  ['v1 Secret', Secret],
  ['v1 ServiceAccount', ServiceAccount],
]);

interface Container {
  readonly args: readonly string[];
  readonly securityContext: { readonly capabilities: { readonly add?: readonly string[] } };
  readonly volumeMounts: readonly { readonly name: string }[];
}
const containerOf = (documents: readonly KubernetesObject[], kind: string, name: string): Container => {
  const workload = find(documents, kind, name) as unknown as {
    readonly spec: { readonly template: { readonly spec: { readonly containers: readonly Container[] } } };
  };
  const [container] = workload.spec.template.spec.containers;
  if (!container) throw new Error(`${kind} ${name} has no container`);
  return container;
};

describe('the chart', () => {
  test.each(['auto', ...driverNames])('with driver %s is valid by the schemas of Kubernetes', (driver) => {
    const { documents } = renderChart({ ...values, node: { driver } });
    expect(documents.map(({ kind }) => kind).sort()).toEqual(
      [
        'Secret',
        'Deployment',
        'PodDisruptionBudget',
        'NetworkPolicy',
        'DaemonSet',
        'ClusterRole',
        'ClusterRoleBinding',
        'ServiceAccount',
        'ServiceAccount',
      ].sort(),
    );
    for (const document of documents) validate(document);
  });

  test('gives a node what its driver says it needs, and the legacy iptables its raw socket', async () => {
    for (const driver of driverNames) {
      const { add = [] } = containerOf(
        renderChart({ ...values, node: { driver } }).documents,
        'DaemonSet',
        'octoplane-node',
      ).securityContext.capabilities;
      const needed = (await driverRegistry.get(driver)?.())?.capabilities ?? [];
      const legacy = driver === 'iptables' || driver === 'ipvs' ? ['NET_RAW'] : [];
      expect([...add].sort()).toEqual([...needed, ...legacy].sort());
      const compose = parse(read(`compose/drivers/${driver}.yml`)).services.node.cap_add;
      expect([...compose].sort()).toEqual([...add].sort());
    }
  });

  test('passes flags that there are, with values that they take', () => {
    const { documents } = renderChart({ ...values, node: { driver: 'auto', clusterCidr: '10.244.0.0/16,fd00::/48' } });
    for (const [kind, name] of [
      ['Deployment', 'octoplane-controller'],
      ['DaemonSet', 'octoplane-node'],
    ] as const) {
      const [verb, ...flags] = containerOf(documents, kind, name).args;
      const command = program().commands.find((candidate) => candidate.name() === verb);
      const { unknown, operands } =
        command?.parseOptions(flags.map((flag) => flag.replace('$(NODE_NAME)', 'node-1'))) ?? {};
      expect({ verb, unknown, operands }).toEqual({
        verb: kind === 'Deployment' ? 'controller' : 'node',
        unknown: [],
        operands: [],
      });
    }
  });

  test('asks the API server for what the sources are tested with, and no more', () => {
    const rules = (documents: readonly KubernetesObject[]) =>
      find(documents, 'ClusterRole', 'octoplane-controller')?.['rules'];
    const tested = parseAllDocuments(read('kubernetes/rbac.yaml')).map(
      (document) => document.toJS() as KubernetesObject,
    );
    expect(rules(renderChart(values).documents)).toEqual(rules(tested));
    const account = find(renderChart(values).documents, 'ServiceAccount', 'octoplane-node');
    expect(account?.['automountServiceAccountToken']).toBe(false);
  });

  test('names a controller in its certificate as nodes reach it', () => {
    const tls = { source: 'cert-manager', issuerRef: { name: 'ours' } };
    const { documents } = renderChart({ ...values, controller: { ...values.controller, tls } });
    expect(find(documents, 'Certificate', 'octoplane-controller')?.['spec']).toMatchObject({
      ipAddresses: ['127.0.0.1', '10.0.0.1', 'fd00::1'],
      dnsNames: ['localhost', 'octoplane-controller', 'octoplane-controller.kube-system.svc', 'brain.example'],
      issuerRef: { kind: 'ClusterIssuer', name: 'ours' },
    });
    expect(find(documents, 'Secret', 'octoplane-controller-tls')).toBeUndefined();
  });

  test.each([
    [{}, 'where is the API server reached without a Service?'],
    [{ kubernetesApi: { host: 'a' } }, 'where do nodes reach the controllers without a Service?'],
    [{ ...values, node: { driver: 'bogus' } }, 'node.driver is one of auto, ebpf, iptables, ipvs, nftables, not bogus'],
    [{ ...values, controller: { ...values.controller, tls: { source: 'x' } } }, 'helm, cert-manager or secret, not x'],
    [{ ...values, controller: { ...values.controller, tls: { source: 'cert-manager' } } }, 'which cert-manager issuer'],
  ])('refuses %j with a sentence', (bad, sentence) => expect(() => renderChart(bad)).toThrow(sentence));
});

test('the plain manifests are the chart as it is', () => {
  expect(read('kubernetes/octoplane.yaml')).toBe(plainManifests());
});

test('what ships and what the chart installs have one version', () => {
  const chart = parse(readFileSync(join(chartDirectory, 'Chart.yaml'), 'utf8'));
  const { version } = JSON.parse(readFileSync(join(deploy, '../services/cli/package.json'), 'utf8'));
  expect([chart.version, chart.appVersion]).toEqual([version, version]);
});

/** By the OpenAPI schemas of Kubernetes, as the package kubernetes-models has them. */
function validate(document: KubernetesObject): void {
  const Model = schemas.get(`${document.apiVersion} ${document.kind}`);
  if (!Model) throw new Error(`there is no schema of ${document.apiVersion} ${document.kind}`);
  new Model(document as never).validate();
}
