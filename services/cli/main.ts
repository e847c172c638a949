#!/usr/bin/env node
import { exitCodeOf, reportError } from './errors.ts';
import { program } from './program.ts';

try {
  await program().parseAsync(process.argv);
} catch (error) {
  reportError(error, process.stderr);
  process.exitCode = exitCodeOf(error);
}
