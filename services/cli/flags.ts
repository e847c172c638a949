import { parseDurationMs } from '@octoplane/model/duration.ts';
import { type Command, InvalidArgumentError, Option } from 'commander';

/** Every flag has an environment variable: --tls-cert is OCTOPLANE_TLS_CERT. Precedence: flag, environment, file, default. */
export function flag(flags: string, description: string): Option {
  const option = new Option(flags, description);
  return option.env(`OCTOPLANE_${option.name().replaceAll('-', '_').toUpperCase()}`);
}

/** Splits "a,b" and collects repeated flags. */
export const list = (value: string, previous: readonly string[] | undefined): readonly string[] => [
  ...(previous ?? []),
  ...value
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== ''),
];

/** "500ms", "60s", "2m", "1h30m" as milliseconds. */
export function durationMs(value: string): number {
  const ms = parseDurationMs(value);
  if (ms === null) throw new InvalidArgumentError('Write a duration such as 500ms, 60s or 2m.');
  return ms;
}

export function positiveInteger(value: string): number {
  if (!/^[1-9][0-9]{0,8}$/.test(value)) throw new InvalidArgumentError('Write a whole number above 0.');
  return Number(value);
}

/** HOST:PORT, [IPV6]:PORT, or unix:PATH. */
export function address(value: string): string {
  if (/^unix:.+/.test(value)) return value;
  const match = /^(\[[0-9a-fA-F:]+\]|[^:\s]+):(\d{1,5})$/.exec(value);
  if (!match || Number(match[2]) > 65_535)
    throw new InvalidArgumentError('Write HOST:PORT, for example 127.0.0.1:12090, or unix:PATH.');
  return value;
}

export interface TlsFlags {
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsCa?: string;
  readonly insecure?: boolean;
  readonly insecureAllowRemote?: boolean;
}

export const withTlsFlags = (command: Command): Command =>
  command
    .addOption(flag('--tls-cert <file>', 'certificate in PEM; names this peer').helpGroup('Identity:'))
    .addOption(flag('--tls-key <file>', 'its private key in PEM').helpGroup('Identity:'))
    .addOption(
      flag('--tls-ca <file>', 'certificates of the authorities that peers are checked against').helpGroup('Identity:'),
    )
    .addOption(
      flag('--insecure', 'no TLS: for a laptop; refused on addresses other than loopback').helpGroup('Identity:'),
    )
    .addOption(
      flag('--insecure-allow-remote', 'let --insecure through on other addresses: anybody there is trusted').helpGroup(
        'Identity:',
      ),
    );

export interface ClientFlags extends TlsFlags {
  readonly server: string;
  readonly output?: OutputFormat;
}

export const outputFormats = ['json', 'yaml', 'wide'] as const;
export type OutputFormat = (typeof outputFormats)[number];

/** Flags of every verb that asks a controller. */
export const withClientFlags = (command: Command): Command =>
  withTlsFlags(
    command
      .addOption(flag('--server <host:port>', 'where the controller is').default('127.0.0.1:12090').argParser(address))
      .addOption(flag('-o, --output <format>', 'instead of a table').choices(outputFormats)),
  );

/** Collects repeated and comma-separated addresses. */
export const addresses = (value: string, previous: readonly string[] | undefined): readonly string[] =>
  list(value, previous).map(address);

export function wholeNumber(value: string): number {
  if (!/^(0|[1-9][0-9]{0,8})$/.test(value)) throw new InvalidArgumentError('Write a whole number.');
  return Number(value);
}
