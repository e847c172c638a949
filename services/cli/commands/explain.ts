import { ExplainResponse } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { Command } from 'commander';
import { ask, withClient } from '../client.ts';
import { describeEvidence, readEvidence } from '../evidence.ts';
import { describeExplanation } from '../explain-text.ts';
import { type ClientFlags, flag, withClientFlags } from '../flags.ts';
import { show } from '../output.ts';

interface ExplainFlags extends ClientFlags {
  readonly node?: string;
  /** A node's address for metrics. */
  readonly kernel?: string;
}

export const explainCommand = (): Command =>
  withClientFlags(
    new Command('explain')
      .description('why a Service is served as it is: the objects and choices behind each endpoint, chosen or not')
      .argument('<target>', 'NAMESPACE/NAME, an address and port such as 10.96.0.10:80, or :NODEPORT')
      .addOption(flag('--node <name>', 'as it is on this node, with what the node has in its kernel'))
      .addOption(
        flag(
          '--kernel [url]',
          'and the objects in the kernel of the node whose metrics are there, read now (ebpf)',
        ).preset('http://127.0.0.1:10249'),
      ),
  )
    .addHelpText(
      'after',
      '\nExamples:\n  octoplane explain default/web\n  octoplane explain 10.96.0.10:80 --node node-1\n  octoplane explain :30080 -o yaml\n  octoplane explain default/web --kernel       on a node',
    )
    .action(async (target: string, flags: ExplainFlags) => {
      const answer = await withClient(flags, (client) =>
        ask<ExplainResponse>((...call) => client.explain({ target, node: flags.node ?? '' }, ...call)),
      );
      const ports = new Set(answer.viewpoints.flatMap((viewpoint) => viewpoint.ports.map(({ key }) => key)));
      const kernel = flags.kernel === undefined ? [] : await readEvidence(flags.kernel, [...ports]);
      const json = ExplainResponse.toJSON(answer) as object;
      show(
        flags.kernel === undefined ? json : { ...json, kernel },
        flags.output,
        (wide) => describeExplanation(answer, wide) + describeEvidence(kernel),
      );
    });
