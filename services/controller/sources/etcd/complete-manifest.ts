import type { Fields } from '@octoplane/model/findings.ts';
import type { Service } from '@octoplane/model/objects.ts';

const fieldsOf = (value: unknown): Fields => (typeof value === 'object' && value !== null ? { ...value } : {});

/** The manifest with what the Service was given written into it, where an API server would write it. */
export function completeService(manifest: Fields, service: Service): Fields {
  const spec = fieldsOf(manifest['spec']);
  const ports = Array.isArray(spec['ports']) ? spec['ports'] : [];
  const [clusterIp] = service.clusterIps;
  return {
    ...manifest,
    spec: {
      ...spec,
      ...(clusterIp === undefined ? {} : { clusterIP: clusterIp, clusterIPs: service.clusterIps }),
      ...(service.healthCheckNodePort === 0 ? {} : { healthCheckNodePort: service.healthCheckNodePort }),
      ports: ports.map((port: unknown, i) => {
        const nodePort = service.ports[i]?.nodePort ?? 0;
        return nodePort === 0 ? port : { ...fieldsOf(port), nodePort };
      }),
    },
  };
}

/** The manifest under its full name, and with the time of its creation, by which contested addresses are judged. */
export function completeMetadata(manifest: Fields, name: string, before: Fields | null, nowMs: number): Fields {
  const metadata = fieldsOf(manifest['metadata']);
  const created = fieldsOf(before?.['metadata'])['creationTimestamp'] ?? new Date(nowMs).toISOString();
  const namespace = name.includes('/') ? { namespace: name.slice(0, name.indexOf('/')) } : {};
  return { ...manifest, metadata: { creationTimestamp: created, ...metadata, ...namespace } };
}
