import { CliError } from './errors.ts';
import { table, tone } from './table.ts';

/** What a node's kernel holds of one service port, as the node tells it at `/explain`. */
export interface PortEvidence {
  readonly driver: string;
  readonly service: string;
  /** Null: this driver cannot tell. */
  readonly evidence: readonly { readonly object: string; readonly at: string; readonly says: string }[] | null;
}

/** @throws CliError when there is no node, or not one that knows how */
export async function readEvidence(url: string, ports: readonly string[]): Promise<readonly PortEvidence[]> {
  return Promise.all(ports.map((port) => readPort(url, port)));
}

async function readPort(url: string, port: string): Promise<PortEvidence> {
  try {
    const response = await fetch(new URL(`/explain?service=${encodeURIComponent(port)}`, url));
    if (!response.ok) throw new Error(`it answers ${response.status}`);
    return (await response.json()) as PortEvidence;
  } catch (error) {
    const why = error instanceof Error ? ((error.cause as Error | undefined)?.message ?? error.message) : String(error);
    throw new CliError(
      `no node tells at ${url} what its kernel holds (${why}): pass --kernel the node's --metrics-bind-address`,
      {
        cause: error,
      },
    );
  }
}

export function describeEvidence(ports: readonly PortEvidence[]): string {
  return ports.map((port) => `\n${textOf(port)}`).join('');
}

function textOf({ service, driver, evidence }: PortEvidence): string {
  if (evidence === null) return `${service}: the ${driver} driver does not show its objects\n`;
  if (evidence.length === 0) return `${service}: ${tone('bad', 'nothing')} in the kernel, by ${driver}\n`;
  return `${service} in the kernel, by ${driver}\n${table(
    ['  OBJECT', 'AT', 'SAYS'],
    evidence.map(({ object, at, says }) => [`  ${object}`, at, says]),
  )}`;
}
