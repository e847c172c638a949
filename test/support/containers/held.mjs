// Runs a command, says how it ended, and stays: what it has said can be read without hurry.
import { spawn } from 'node:child_process';

const [command, ...args] = process.argv.slice(2);
const child = spawn(command, args, { stdio: 'inherit' });
child.on('close', (code) => console.log(`ended with ${code}`));
setInterval(() => undefined, 60_000);
process.on('SIGTERM', () => process.exit());
