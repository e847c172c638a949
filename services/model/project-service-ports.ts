import { describe, type Fields, type Findings, isEmptyList, type Path } from './findings.ts';
import { protocols } from './keys.ts';
import type { Service, ServicePort } from './objects.ts';
import { isLabel } from './project-meta.ts';

const at: Path = ['spec', 'ports'];
const portFields = new Set(['appProtocol', 'name', 'nodePort', 'port', 'protocol', 'targetPort']);

/** The ports of a Service. Names, (port, protocol) and (nodePort, protocol) are each unique within it. */
export function readServicePorts(
  spec: Fields,
  service: { readonly type: Service['type']; readonly portless: boolean },
  findings: Findings,
): readonly ServicePort[] {
  const values = findings.list(spec, 'ports', ['spec']);
  if (isEmptyList(spec['ports']) && !service.portless)
    findings.refuse(at, 'the Service has no port', 'name at least one');
  const unique = new Unique(findings);
  const ports: ServicePort[] = [];
  values.forEach((value, i) => {
    const path: Path = [...at, i];
    const item = findings.item(value, path);
    findings.warnUnknown(item, portFields, path);
    const name = readName(item, path, values.length > 1, findings);
    const protocol = findings.choice(item, 'protocol', path, protocols, 'TCP');
    if ((item['port'] ?? null) === null)
      findings.refuse([...path, 'port'], 'the port has no number', 'write one from 1 to 65535');
    const port = findings.number(item, 'port', path, 1, 65_535, 'a port');
    const nodePort = findings.number(item, 'nodePort', path, 0, 65_535, 'a port') ?? 0;
    if (nodePort !== 0 && service.type === 'ClusterIP')
      findings.refuse(
        [...path, 'nodePort'],
        'a ClusterIP Service has no node ports',
        'use type NodePort or LoadBalancer',
      );
    if (port === null) return;
    unique.require(`name ${name}`, [...path, 'name'], `the name ${describe(name)}`);
    unique.require(`port ${port}/${protocol}`, [...path, 'port'], `the port ${port}/${protocol}`);
    if (nodePort !== 0)
      unique.require(
        `nodePort ${nodePort}/${protocol}`,
        [...path, 'nodePort'],
        `the node port ${nodePort}/${protocol}`,
      );
    ports.push({ name, protocol, port, nodePort });
  });
  return ports;
}

function readName(item: Fields, path: Path, required: boolean, findings: Findings): string {
  const name = findings.text(item, 'name', path);
  if (name === '' && required)
    findings.refuse([...path, 'name'], 'the port has no name', 'with several ports each needs one');
  else if (name !== '' && !isLabel(name))
    findings.refuse(
      [...path, 'name'],
      `${describe(name)} is not a port's name`,
      'use lower-case letters, digits and "-"',
    );
  return name;
}

class Unique {
  readonly #seen = new Set<string>();
  readonly #findings: Findings;

  constructor(findings: Findings) {
    this.#findings = findings;
  }

  require(value: string, path: Path, what: string): void {
    if (this.#seen.has(value))
      this.#findings.refuse(path, `${what} is used twice in this Service`, 'give each port its own');
    this.#seen.add(value);
  }
}
