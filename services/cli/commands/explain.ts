import { ExplainResponse } from '@octoplane/model/gen/octoplane/v1/admin.ts';
import { Command } from 'commander';
import { ask, withClient } from '../client.ts';
import { describeExplanation } from '../explain-text.ts';
import { type ClientFlags, flag, withClientFlags } from '../flags.ts';
import { show } from '../output.ts';

interface ExplainFlags extends ClientFlags {
  readonly node?: string;
}

export const explainCommand = (): Command =>
  withClientFlags(
    new Command('explain')
      .description('why a Service is served as it is: the objects and choices behind each endpoint, chosen or not')
      .argument('<target>', 'NAMESPACE/NAME, an address and port such as 10.96.0.10:80, or :NODEPORT')
      .addOption(flag('--node <name>', 'as it is on this node, with what the node has in its kernel')),
  )
    .addHelpText(
      'after',
      '\nExamples:\n  octoplane explain default/web\n  octoplane explain 10.96.0.10:80 --node node-1\n  octoplane explain :30080 -o yaml',
    )
    .action(async (target: string, flags: ExplainFlags) => {
      const answer = await withClient(flags, (client) =>
        ask<ExplainResponse>((...call) => client.explain({ target, node: flags.node ?? '' }, ...call)),
      );
      show(ExplainResponse.toJSON(answer) as object, flags.output, (wide) => describeExplanation(answer, wide));
    });
