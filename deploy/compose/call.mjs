#!/usr/bin/env node
// call [URL] [TIMES]: opens so many connections, one after the other, and says which backends answered.
const [url = 'http://10.96.0.10', times = '30'] = process.argv.slice(2);
const answers = new Map();
for (let i = 0; i < Number(times); i++) {
  const answer = await fetch(url, { headers: { connection: 'close' }, signal: AbortSignal.timeout(3_000) }).then(
    async (response) => (await response.text()).trim(),
    (error) => `failed: ${error.cause?.code ?? error.message}`,
  );
  if (i === 0) console.log(`${times} connections to ${url}`);
  answers.set(answer, (answers.get(answer) ?? 0) + 1);
}
for (const [answer, count] of [...answers].sort()) console.log(`${answer} ${count}`);
process.exitCode = [...answers.keys()].some((answer) => answer.startsWith('failed')) ? 1 : 0;
