import type { Command } from 'commander';
import { type Logger, pino } from 'pino';
import { flag } from './flags.ts';

export const logLevels = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof logLevels)[number];

export const withLogFlags = (command: Command): Command =>
  command.addOption(
    flag('--log-level <level>', 'the least that is logged; one line of JSON per event, on stderr')
      .choices(logLevels)
      .default('info')
      .helpGroup('Options:'),
  );

/** Written synchronously: what a daemon said before it was killed is what one wants to read. */
export const logger = (level: LogLevel, component: 'controller' | 'node'): Logger =>
  pino(
    {
      level,
      base: { component },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    pino.destination({ dest: 2, sync: true }),
  );
