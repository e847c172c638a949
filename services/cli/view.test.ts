import { expect, test } from 'vitest';
import { ChangedLines } from './view.ts';

test('of what is shown again, only what is otherwise than before is a line', () => {
  const lines = new ChangedLines();
  expect(lines.of('NAME    ACK\nnode-1  3s ago\n\nnode-2  3s ago\n')).toBe(
    'NAME    ACK\nnode-1  3s ago\nnode-2  3s ago\n',
  );
  expect(lines.of('NAME    ACK\nnode-1  4s ago\n\nnode-2  4s ago\n')).toBe('');
  expect(lines.of('NAME      ACK\nnode-1    1s ago\nnode-100  1s ago\n')).toBe('node-100  1s ago\n');
  expect(lines.of('NAME    ACK\nnode-1  1s ago\nnode-2  1s ago\n')).toBe('node-2  1s ago\n');
});
