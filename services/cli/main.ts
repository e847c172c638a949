#!/usr/bin/env -S node --max-semi-space-size=2
// Frames come and go by the thousand and little of them stays: the default young generation of 16 MiB a space, three times over, buys
// nothing here, and a snapshot of 10,000 x 10 leaves it resident (docs/benchmarks.md, memory).
import { exitCodeOf, reportError } from './errors.ts';
import { program } from './program.ts';

try {
  await program().parseAsync(process.argv);
} catch (error) {
  reportError(error, process.stderr);
  process.exitCode = exitCodeOf(error);
}
