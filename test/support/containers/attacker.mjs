// What somebody without a certificate can do to a port, from a container beside it. Prints one line of JSON when it has done it.
//
//   garbage HOST PORT     random bytes, and half of a TLS greeting: how many of the connections were closed by the other side
//   crowd HOST PORT N     N connections at once that say nothing; holds those that stay open until it is ended
import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';

const [what, host, port, count] = process.argv.slice(2);

if (what === 'garbage') {
  const halfHello = Buffer.from('16030100c8010000c40303', 'hex');
  const texts = [randomBytes(64 * 1024), halfHello, Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.alloc(0)];
  const outcomes = await Promise.all(texts.map(send));
  console.log(
    JSON.stringify({ sent: outcomes.length, closed: outcomes.filter((outcome) => outcome === 'closed').length }),
  );
} else {
  const open = new Set();
  let refused = 0;
  await Promise.all(
    Array.from({ length: Number(count) }, () => {
      const { promise, resolve } = Promise.withResolvers();
      const socket = connect(Number(port), host);
      socket.on('connect', () => {
        open.add(socket);
        resolve();
      });
      socket.on('error', resolve);
      socket.on('close', () => {
        open.delete(socket);
        refused++;
        resolve();
      });
      socket.resume();
      return promise;
    }),
  );
  console.log(JSON.stringify({ tried: Number(count) }));
  setInterval(() => console.log(JSON.stringify({ open: open.size, refused })), 500);
}

/** Until the other side closes. */
function send(bytes) {
  const { promise, resolve } = Promise.withResolvers();
  const socket = connect(Number(port), host, () => socket.write(bytes));
  socket.on('error', () => resolve('closed'));
  socket.on('close', () => resolve('closed'));
  socket.resume();
  return promise;
}
