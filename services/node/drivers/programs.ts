import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';

/**
 * Runs one of the user's own programs, for what happens once in the life of a node. What it printed; null when it is not
 * installed.
 * @throws Error with what it wrote to stderr
 */
export type Runner = (command: string, args: readonly string[], input?: string) => Promise<string | null>;

export const run: Runner = async (command, args, input = '') => {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  try {
    await once(child, 'spawn');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
  // A program that ends without having read its input says why by its status.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const [output, complaint, [status]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close'),
  ]);
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}: ${complaint.trim()}`);
  return output;
};
