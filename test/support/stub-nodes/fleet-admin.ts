import {
  type AdminServiceClient,
  type ChangeRecord,
  type ListHistoryResponse,
  WaitRequest,
  type WaitResponse,
} from '@octoplane/model/gen/octoplane/v1/admin.ts';
import type { InputRevision } from '@octoplane/model/gen/octoplane/v1/stream.ts';

/** Waits until so many nodes have the newest version. */
export async function programmedEverywhere(
  client: AdminServiceClient,
  nodes: number,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    const last = await waitFor(client, signal);
    if (last.nodes >= nodes) return;
  }
}

/** The newest change, once the directory has been read up to `revision` and everybody has it. */
export async function arrivedChange(
  client: AdminServiceClient,
  revision: number,
  signal: AbortSignal,
): Promise<ChangeRecord> {
  await waitFor(client, signal, [{ source: 'file', incarnation: '', revision }]);
  const [newest] = await historyOf(client, 1);
  if (!newest) throw new Error('there is no history');
  return newest;
}

/** Newest first. */
export async function historyOf(client: AdminServiceClient, limit: number): Promise<readonly ChangeRecord[]> {
  const { changes } = await new Promise<ListHistoryResponse>((resolve, reject) =>
    client.listHistory({ limit, service: '' }, (error, response) => (error ? reject(error) : resolve(response))),
  );
  return changes;
}

async function waitFor(
  client: AdminServiceClient,
  signal: AbortSignal,
  inputs: readonly InputRevision[] = [],
): Promise<WaitResponse> {
  const call = client.wait({ ...WaitRequest.create(), inputs: [...inputs] });
  const cancel = () => call.cancel();
  signal.addEventListener('abort', cancel);
  try {
    let last: WaitResponse | null = null;
    for await (const report of call as AsyncIterable<WaitResponse>) last = report;
    if (last === null) throw new Error('a wait without a report');
    return last;
  } finally {
    signal.removeEventListener('abort', cancel);
  }
}
