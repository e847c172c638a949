import type { ReadableSpan } from '@opentelemetry/sdk-trace';
import fc from 'fast-check';
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../../test/support/stub-nodes/manual-clock.ts';
import type { EndedChange } from './change-trace.ts';
import { Outbox, type SpanFate } from './outbox.ts';

/** A change that makes so many spans, whose names are its own. */
const changeOf = (id: number, spans: number) =>
  ({ id, spans }) as unknown as EndedChange & { id: number; spans: number };

type Collector = (spans: readonly ReadableSpan[]) => Promise<void>;

function outboxOf(send: Collector, settings = {}) {
  const clock = new ManualClock();
  const counts: Record<SpanFate, number> = { exported: 0, overflow: 0, failed: 0 };
  const lines: string[] = [];
  const outbox = new Outbox({
    settings: { maxSpans: 32_768, delayMs: 1000, batchSpans: 512, timeoutMs: 30_000, ...settings },
    spansOf: (change) => {
      const { id, spans } = change as ReturnType<typeof changeOf>;
      return Array.from({ length: spans }, (_, i) => ({ name: `${id}/${i}` }) as ReadableSpan);
    },
    countOf: (change) => (change as ReturnType<typeof changeOf>).spans,
    send,
    clock,
    logger: pino({}, { write: (line) => lines.push(JSON.parse(line).msg) }),
    onCounted: (fate, spans) => {
      counts[fate] += spans;
    },
  });
  return { outbox, clock, counts, lines };
}

/** Takes everything, slowly: an answer takes a turn of the event loop. */
function takingAll() {
  const batches: string[][] = [];
  const send: Collector = async (spans) => {
    await new Promise((resolve) => setImmediate(resolve));
    batches.push(spans.map(({ name }) => name));
  };
  return { batches, send };
}

describe('nothing that is meant to be kept is lost', () => {
  test('a burst of 30,000 spans at once, each once and in order', async () => {
    const { batches, send } = takingAll();
    const { outbox, counts } = outboxOf(send);
    const changes = Array.from({ length: 200 }, (_, i) => changeOf(i, 150));
    for (const change of changes) outbox.offer(change);
    await outbox.flush();
    const names = batches.flat();
    expect(names).toHaveLength(30_000);
    expect(new Set(names).size).toBe(30_000);
    expect(counts).toEqual({ exported: 30_000, overflow: 0, failed: 0 });
    expect(Math.max(...batches.map(({ length }) => length))).toBeLessThanOrEqual(512);
  });

  test('whatever is offered when, every span has one fate, and traces stay whole', async () => {
    const offer = fc.record({ spans: fc.integer({ min: 1, max: 700 }), waits: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.array(offer, { maxLength: 60 }), async (offers) => {
        const { batches, send } = takingAll();
        const { outbox, counts } = outboxOf(send, { maxSpans: 2000 });
        for (const [id, { spans, waits }] of offers.entries()) {
          outbox.offer(changeOf(id, spans));
          expect(outbox.waitingSpans).toBeLessThanOrEqual(2000);
          if (waits) await new Promise((resolve) => setImmediate(resolve));
        }
        await outbox.flush();
        const meant = offers.reduce((sum, { spans }) => sum + spans, 0);
        expect(counts.exported + counts.overflow).toBe(meant);
        const byChange = Map.groupBy(batches.flat(), (name) => Number(name.split('/')[0]));
        for (const [id, names] of byChange) expect(names).toHaveLength(offers[id]?.spans ?? -1);
      }),
      { numRuns: 50 },
    );
  });

  test('a few wait for more to come, but not for long', async () => {
    const { batches, send } = takingAll();
    const { outbox, clock } = outboxOf(send);
    outbox.offer(changeOf(0, 10));
    outbox.offer(changeOf(1, 10));
    expect(batches).toEqual([]);
    clock.advance(1000);
    await outbox.flush();
    expect(batches.map(({ length }) => length)).toEqual([20]);
  });
});

describe('a collector that', () => {
  test('refuses costs what it refuses, counted, and is told of once', async () => {
    let refuses = true;
    const { outbox, counts, lines } = outboxOf(async () => {
      if (refuses) throw new Error('no');
    });
    for (let i = 0; i < 10; i++) outbox.offer(changeOf(i, 500));
    await outbox.flush();
    expect(counts).toEqual({ exported: 0, overflow: 0, failed: 5000 });
    refuses = false;
    for (let i = 0; i < 10; i++) outbox.offer(changeOf(i, 500));
    await outbox.flush();
    expect(counts).toEqual({ exported: 5000, overflow: 0, failed: 5000 });
    expect(lines).toEqual([
      'the trace collector does not take spans; what it refuses is dropped and counted',
      'the trace collector takes spans again',
    ]);
  });

  test('never answers holds a bounded number, and the rest is counted', async () => {
    const asked = Promise.withResolvers<void>();
    const { outbox, clock, counts } = outboxOf(
      () => {
        asked.resolve();
        return new Promise<never>(() => undefined);
      },
      { maxSpans: 1000 },
    );
    for (let i = 0; i < 100; i++) outbox.offer(changeOf(i, 100));
    expect(outbox.waitingSpans).toBe(1000);
    expect(counts.overflow).toBe(9000);
    await asked.promise;
    clock.advance(30_000);
    await new Promise((resolve) => setImmediate(resolve));
    expect(counts.failed).toBe(500);
  });
});

test('spans that cannot be made are counted as failed, and the next are sent', async () => {
  const { batches, send } = takingAll();
  const { outbox, counts } = outboxOf(send, { batchSpans: 1 });
  const broken = Object.defineProperty(changeOf(1, 3), 'id', {
    get() {
      throw new Error('broken');
    },
  });
  for (const change of [changeOf(0, 3), broken, changeOf(2, 3)]) outbox.offer(change);
  await outbox.flush();
  expect(batches.map(([name]) => name)).toEqual(['0/0', '2/0']);
  expect(counts).toEqual({ exported: 6, overflow: 0, failed: 3 });
});
