import { Command } from 'commander';
import { applyCommand } from './commands/apply.ts';
import { certsCommand } from './commands/certs.ts';
import { controllerCommand } from './commands/controller.ts';
import { deleteCommand } from './commands/delete.ts';
import { explainCommand } from './commands/explain.ts';
import { getCommand } from './commands/get.ts';
import { historyCommand } from './commands/history.ts';
import { nodeCommand } from './commands/node.ts';
import { nodesCommand } from './commands/nodes.ts';
import { registerCommand } from './commands/register.ts';
import { servicesCommand } from './commands/services.ts';
import { statusCommand } from './commands/status.ts';
import { waitCommand } from './commands/wait.ts';
import { release } from './release.ts';

/** The whole command line; a fresh one for every call, because commander keeps parsed values in it. */
export function program(): Command {
  const root = new Command('octoplane')
    .description('One brain, many thin arms: Services in every kernel, and proof that they are there.')
    .version(release, '-V, --version')
    .showHelpAfterError('(octoplane COMMAND --help shows flags, defaults and examples)')
    .enablePositionalOptions()
    .exitOverride();
  const commands = [
    controllerCommand(),
    nodeCommand(),
    statusCommand(),
    nodesCommand(),
    servicesCommand(),
    historyCommand(),
    explainCommand(),
    waitCommand(),
    applyCommand(),
    deleteCommand(),
    getCommand(),
    certsCommand(),
    registerCommand(),
  ];
  for (const command of commands) {
    root.addCommand(command.copyInheritedSettings(root));
    for (const verb of command.commands) verb.copyInheritedSettings(command);
  }
  return root;
}
