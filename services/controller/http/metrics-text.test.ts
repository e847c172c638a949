import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { formFor, metricsText, newMetricsRegistry } from './metrics-text.ts';

test('counters, labels, histograms with exemplars', async () => {
  const registry = newMetricsRegistry();
  const registers = [registry];
  new Counter({ name: 'things_total', help: 'Of "them"', labelNames: ['name'], registers }).inc({ name: 'a"\\\n' });
  new Gauge({ name: 'level', help: 'Now', registers }).set(Number.NaN);
  const histogram = new Histogram<'trace_id'>({
    name: 'took',
    help: 'Time',
    buckets: [1],
    enableExemplars: true,
    registers,
  });
  histogram.observe({ labels: {}, value: 0.5, exemplarLabels: { trace_id: 'abc' } });
  histogram.observe({ labels: {}, value: 2 });
  const text = await metricsText(registry, Registry.OPENMETRICS_CONTENT_TYPE);
  expect(text.replace(/(# \{.*\} 0\.5) [0-9.]+$/m, '$1 NOW')).toBe(
    [
      '# HELP things Of \\"them\\"',
      '# TYPE things counter',
      'things_total{name="a\\"\\\\\\n"} 1',
      '# HELP level Now',
      '# TYPE level gauge',
      'level NaN',
      '# HELP took Time',
      '# TYPE took histogram',
      'took_bucket{le="1"} 1 # {trace_id="abc"} 0.5 NOW',
      'took_bucket{le="+Inf"} 2',
      'took_sum 2.5',
      'took_count 2',
      '# EOF',
      '',
    ].join('\n'),
  );
  const plain = await metricsText(registry, Registry.PROMETHEUS_CONTENT_TYPE);
  expect(plain).toContain('# TYPE things_total counter\nthings_total{');
  expect(plain).not.toMatch(/trace_id|EOF/);
});

test('is given to those who ask for it', () => {
  expect(formFor('application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5')).toContain('openmetrics');
  for (const accept of ['*/*', undefined]) expect(formFor(accept)).toContain('text/plain');
});
