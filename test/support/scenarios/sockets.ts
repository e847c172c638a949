import { readFileSync } from 'node:fs';

/** Has any socket in this thread's network namespace this local port, listening (TCP) or bound (UDP)? */
export function listensOn(port: number): boolean {
  return ['tcp', 'tcp6', 'udp', 'udp6'].some((table) =>
    readFileSync(`/proc/thread-self/net/${table}`, 'utf8')
      .split('\n')
      .slice(1)
      .some((line) => isListener(line, table, port)),
  );
}

/** proc_net_tcp(5): "sl: local remote state ...", addresses and ports in hexadecimal; state 0A is LISTEN. */
function isListener(line: string, table: string, port: number): boolean {
  const [, local = '', , state] = line.trim().split(/\s+/);
  const localPort = Number.parseInt(local.split(':').at(-1) ?? '', 16);
  return localPort === port && (table.startsWith('udp') || state === '0A');
}
