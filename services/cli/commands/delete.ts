import { formatId } from '@octoplane/model/project.ts';
import { Command } from 'commander';
import { CliError } from '../errors.ts';
import { type EtcdFlags, withEtcdFlags, withStore } from '../etcd.ts';
import { flag, list } from '../flags.ts';
import { readManifests } from '../manifests.ts';

interface DeleteFlags extends EtcdFlags {
  readonly filename: readonly string[];
}

export const deleteCommand = (): Command =>
  withEtcdFlags(new Command('delete'))
    .description('removes the objects of a file from etcd, and frees the addresses they were given')
    .addOption(
      flag('-f, --filename <file>', 'YAML or JSON, several documents each; - is the standard input; repeatable')
        .argParser(list)
        .makeOptionMandatory(),
    )
    .addHelpText('after', '\nExit code 1 when one was not there.\n\nExamples:\n  octoplane delete -f service.yaml')
    .action(async (flags: DeleteFlags) => {
      const absent: string[] = [];
      for (const { id } of readManifests(flags.filename).manifests) {
        const deleted = await withStore(flags, [], (store, signal) => store.delete(id, signal));
        if (deleted) process.stdout.write(`${formatId(id)} deleted\n`);
        else absent.push(formatId(id));
      }
      if (absent.length > 0) throw new CliError(`${absent.join(', ')}: not in etcd; octoplane get lists what is`);
    });
