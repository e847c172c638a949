import { hostname } from 'node:os';
import { Command, InvalidArgumentError } from 'commander';
import type { Subject } from '../certs/authority.ts';
import type { Issued, Owner } from '../certs/certificate-dir.ts';
import { flag, list, positiveInteger } from '../flags.ts';

interface CertsFlags {
  readonly dir: string;
  readonly days: number;
  readonly renew: boolean;
  readonly owner: Owner | null;
  readonly host: readonly string[];
}

/** For a laptop, compose, and machines that are few; a fleet has cert-manager or a CA of its own (docs/security.md). */
export const certsCommand = (): Command =>
  new Command('certs')
    .description('makes an authority and certificates: for the controller, nodes and admins')
    .addHelpText(
      'after',
      '\nEach holder gets a directory with tls.crt, tls.key and ca.crt. What is there and still good is kept; daemons take renewed' +
        '\nfiles without a restart. Keep ca/ca.key where certificates are made.\n\nExamples:\n' +
        '  octoplane certs ca\n  octoplane certs controller --host brain.example\n  octoplane certs node node-1 node-2\n' +
        '  octoplane certs admin ann',
    )
    .addCommand(authorityCommand())
    .addCommand(controllerCommand())
    .addCommand(nodeCommand())
    .addCommand(adminCommand());

const authorityCommand = (): Command =>
  new Command('ca')
    .description('the authority that signs the others; made once')
    .addOption(directory())
    .addOption(days(3_650))
    .action(async ({ dir, days }: CertsFlags) => {
      const { CertificateDir } = await import('../certs/certificate-dir.ts');
      report('ca', await new CertificateDir(dir).authority(days));
    });

const controllerCommand = (): Command =>
  withIssueFlags(new Command('controller'))
    .description('a controller, under every name and address that nodes reach it by')
    .addOption(
      flag('--host <host>', 'DNS name or IP address; repeatable; localhost is always among them')
        .argParser(list)
        .default([], 'the host name'),
    )
    .action((flags: CertsFlags) => {
      const named = flags.host.length > 0 ? flags.host : [hostname().toLowerCase()];
      const hosts = [...new Set([...named, 'localhost', '127.0.0.1', '::1'])];
      return issue(flags, 'controller', { commonName: 'octoplane controller', hosts, use: 'server' });
    });

const nodeCommand = (): Command =>
  withIssueFlags(new Command('node'))
    .description('nodes, each for its own name and no other')
    .argument('<name...>', 'as --node-name and the Node object have it', names)
    .action(async (nodes: readonly string[], flags: CertsFlags) => {
      for (const name of nodes)
        await issue(flags, `node/${name}`, { commonName: name, uris: [`octoplane://node/${name}`], use: 'client' });
    });

const adminCommand = (): Command =>
  withIssueFlags(new Command('admin'))
    .description('people and programs that ask a controller: status, wait and the like')
    .argument('[name...]', 'whose it is; default: admin', names)
    .action(async (admins: readonly string[] | undefined, flags: CertsFlags) => {
      for (const name of admins?.length ? admins : ['admin'])
        await issue(flags, `admin/${name}`, { commonName: name, uris: [`octoplane://admin/${name}`], use: 'client' });
    });

const directory = () => flag('--dir <dir>', 'where the certificates are').default('certs');
const days = (value: number) =>
  flag('--days <n>', 'how long it is valid; never longer than the authority').default(value).argParser(positiveInteger);

const withIssueFlags = (command: Command): Command =>
  command
    .addOption(directory())
    .addOption(days(365))
    .addOption(flag('--renew', 'also what is still good').default(false))
    .addOption(
      flag('--owner <uid:gid>', 'of the private key, where the daemon is not the user that runs this')
        .default(null, 'who runs this')
        .argParser(owner),
    );

async function issue({ dir, ...issuing }: CertsFlags, who: string, subject: Subject): Promise<void> {
  const { CertificateDir } = await import('../certs/certificate-dir.ts');
  report(who, await new CertificateDir(dir).issue(who, subject, issuing));
}

const report = (who: string, { directory, outcome, notAfter }: Issued): void => {
  process.stdout.write(`${who} ${outcome}: ${directory}, valid until ${notAfter.toISOString().slice(0, 10)}\n`);
};

/** Names of nodes and admins: what goes into a URI and a path as it is. */
function names(value: string, previous: readonly string[] | undefined): readonly string[] {
  if (!/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(value) || value.includes('..'))
    throw new InvalidArgumentError('Write a DNS name in lower case, as Kubernetes names nodes.');
  return [...(previous ?? []), value];
}

function owner(value: string): Owner {
  const match = /^(\d{1,10}):(\d{1,10})$/.exec(value);
  if (!match) throw new InvalidArgumentError('Write numbers, UID:GID, for example 65532:65532.');
  return { uid: Number(match[1]), gid: Number(match[2]) };
}
