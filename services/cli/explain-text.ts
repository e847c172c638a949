/** An explanation, for people. */
import {
  type EndpointExplanation,
  EndpointExplanation_Kernel,
  type ExplainResponse,
  type NodeStatus,
  type PortExplanation,
  type Viewpoint,
} from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { age, causeText, duration, orDash, sequence } from './format.ts';
import { stateText } from './node-text.ts';
import { table, tone } from './table.ts';

export function describeExplanation(answer: ExplainResponse, wide: boolean): string {
  const { service, type, source, revision, stale, refused, node, rejected } = answer;
  const lines: string[] = [];
  if (type === '') lines.push(`Service ${service} is not served: ${tone('bad', refused)}`);
  else lines.push(`Service ${service}, ${type}, from source ${source} (${revision})`);
  if (type !== '' && refused !== '')
    lines.push(tone('bad', `its newest manifest was refused, and the one before is served: ${refused}`));
  if (stale !== '') lines.push(tone('bad', `source ${source} is stale ${stale}; this is what it said last`));
  lines.push(...changeLines(answer));
  if (node) lines.push(nodeLine(node));
  for (const viewpoint of merged(answer.viewpoints))
    lines.push('', ...viewpointLines(viewpoint, node !== undefined, wide));
  const slices = rejected.filter(({ object }) => object !== `Service ${service}`);
  if (slices.length > 0) {
    const rows = slices.map(({ object, location, reason }) => [object, location, reason]);
    lines.push(
      '',
      'Refused in this namespace, and so perhaps missing here:',
      table(['OBJECT', 'WHERE', 'WHY'], rows).trimEnd(),
    );
  }
  return `${lines.join('\n')}\n`;
}

function changeLines({ lastChange }: ExplainResponse): readonly string[] {
  if (!lastChange) return ['has not changed within the history that is kept'];
  const { version, committedAtUs, causes, moreCauses } = lastChange;
  const ago = age(Date.now() - committedAtUs / 1_000);
  const because = causes.slice(0, 2).map(causeText);
  if (causes.length === 0)
    return [`version ${sequence(version)}, ${ago} ago: what was there when the controller started`];
  const others = causes.length - because.length + moreCauses;
  const more = others > 0 ? ` and ${others} more` : '';
  return [`version ${sequence(version)}, ${ago} ago, because of ${because.join(', ')}${more}`];
}

function nodeLine({ name, state, zone, driver, programmed, lagUs }: NodeStatus): string {
  const behind = lagUs > 0 ? `, ${duration(lagUs)} behind` : '';
  return `${name}: zone ${zone}, driver ${driver}, ${stateText(state)}, version ${sequence(programmed)}${behind}`;
}

interface MergedViewpoint extends Viewpoint {
  readonly zones: readonly string[];
}

/** Zones in which everything is the same are shown as one. */
function merged(viewpoints: readonly Viewpoint[]): readonly MergedViewpoint[] {
  const groups = new Map<string, MergedViewpoint>();
  for (const viewpoint of viewpoints) {
    const same = JSON.stringify(viewpoint.ports);
    const group = groups.get(same);
    if (!group) groups.set(same, { ...viewpoint, zones: [viewpoint.zone] });
    else groups.set(same, { ...group, zones: [...group.zones, viewpoint.zone], nodes: group.nodes + viewpoint.nodes });
  }
  return [...groups.values()];
}

function viewpointLines(viewpoint: MergedViewpoint, hasKernel: boolean, wide: boolean): readonly string[] {
  const { node, nodes, zones, ports } = viewpoint;
  const where = zones.length === 1 ? `zone ${zones[0]}` : `zones ${zones.join(', ')}`;
  const title = node === '' ? [`From ${where} (${nodes} node${nodes === 1 ? '' : 's'}):`, ''] : [];
  return [...title, ...ports.flatMap((port, i) => [...(i > 0 ? [''] : []), ...portLines(port, hasKernel, wide)])];
}

function portLines(port: PortExplanation, hasKernel: boolean, wide: boolean): readonly string[] {
  const name = port.name === '' ? '' : ` (${port.name})`;
  if (port.noEntry !== '') return [`${port.key}${name}: no rules: ${port.noEntry}`];
  const lines = [`${port.key}${name} at ${port.frontends.join(', ')}`, ...port.choices.map((choice) => `  ${choice}`)];
  if (port.heldBack !== '')
    lines.push(tone('bad', `  the node refused this entry and has what it had before: ${port.heldBack}`));
  if (port.endpoints.length === 0) return [...lines, '  there is no endpoint'];
  const header = ['  ENDPOINT', 'USED', ...(hasKernel ? ['IN KERNEL'] : []), 'WHY', 'CONDITION', 'NODE', 'ZONE'];
  const rows = port.endpoints.map((endpoint) => row(endpoint, hasKernel, wide));
  return [...lines, table(wide ? [...header, 'SLICE', 'REVISION'] : header, rows).trimEnd()];
}

const row = (endpoint: EndpointExplanation, hasKernel: boolean, wide: boolean): string[] => [
  `  ${endpoint.address}`,
  endpoint.chosen ? tone('good', 'yes') : tone('warn', 'no'),
  ...(hasKernel ? [kernelText(endpoint)] : []),
  endpoint.why,
  endpoint.condition,
  orDash(endpoint.node),
  orDash(endpoint.zone),
  ...(wide ? [endpoint.slice, endpoint.sliceRevision] : []),
];

/** Coloured where it is not as chosen. */
function kernelText({ chosen, kernel }: EndpointExplanation): string {
  if (kernel === EndpointExplanation_Kernel.YES) return chosen ? 'yes' : tone('bad', 'yes');
  if (kernel === EndpointExplanation_Kernel.NO) return chosen ? tone('bad', 'no') : 'no';
  return kernel === EndpointExplanation_Kernel.MAYBE ? tone('warn', 'not acknowledged') : '-';
}
