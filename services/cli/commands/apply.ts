import type { Cidr } from '@octoplane/model/address.ts';
import { formatId } from '@octoplane/model/project.ts';
import { Command } from 'commander';
import { type EtcdFlags, withEtcdFlags, withStore } from '../etcd.ts';
import { flag, list } from '../flags.ts';
import { readManifests } from '../manifests.ts';
import { defaultServiceCidr, serviceCidrs } from './controller.ts';

interface ApplyFlags extends EtcdFlags {
  readonly filename: readonly string[];
  readonly serviceCidr: readonly Cidr[];
}

export const applyCommand = (): Command =>
  withEtcdFlags(new Command('apply'))
    .description('writes Services, EndpointSlices and Nodes to etcd, giving Services the addresses they do not name')
    .addOption(
      flag('-f, --filename <file>', 'YAML or JSON, several documents each; - is the standard input; repeatable')
        .argParser(list)
        .makeOptionMandatory(),
    )
    .addOption(
      flag('--service-cidr <cidr>', "cluster IPs; the same as the controller's")
        .default([defaultServiceCidr], '10.96.0.0/12')
        .argParser(serviceCidrs),
    )
    .addHelpText(
      'after',
      '\nEverything is checked first: one bad object, and nothing is written.\n\nExamples:\n' +
        '  octoplane apply -f service.yaml\n  cat slices.yaml | octoplane apply -f - --etcd http://10.0.0.1:2379',
    )
    .action(async (flags: ApplyFlags) => {
      const { manifests, remarks } = readManifests(flags.filename);
      for (const remark of remarks) process.stderr.write(`${remark}\n`);
      for (const { id, manifest } of manifests) {
        const applied = await withStore(flags, flags.serviceCidr, (store, signal) => store.apply(manifest, signal));
        process.stdout.write(`${formatId(id)} ${applied}\n`);
      }
    });
