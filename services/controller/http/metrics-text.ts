import { type OpenMetricsContentType, type PrometheusContentType, Registry } from 'prom-client';

/** prom-client allows exemplars in such a registry alone. */
export type MetricsRegistry = Registry<OpenMetricsContentType>;

export function newMetricsRegistry(): MetricsRegistry {
  const registry = new Registry<OpenMetricsContentType>();
  registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
  return registry;
}

export type MetricsForm = PrometheusContentType | OpenMetricsContentType;

/** Prometheus asks for OpenMetrics, which alone has room for exemplars; who does not gets the plain form. */
export const formFor = (accept: string | undefined): MetricsForm =>
  accept?.includes('application/openmetrics-text')
    ? Registry.OPENMETRICS_CONTENT_TYPE
    : Registry.PROMETHEUS_CONTENT_TYPE;

/**
 * Metrics in either form. prom-client can write each, but not one registry in both: for OpenMetrics it takes "_total" off the names of
 * counters for good.
 */
export async function metricsText(registry: MetricsRegistry, form: MetricsForm): Promise<string> {
  const isOpen = form === Registry.OPENMETRICS_CONTENT_TYPE;
  const metrics = (await registry.getMetricsAsJSON()) as unknown as readonly Metric[];
  return metrics.map((metric) => textOf(metric, isOpen)).join('') + (isOpen ? '# EOF\n' : '');
}

/** What prom-client gives. */
interface Metric {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly values: readonly {
    readonly metricName?: string;
    readonly value: number;
    readonly labels: Labels;
    readonly exemplar?: { readonly labelSet: Labels; readonly value: number; readonly timestamp: number } | null;
  }[];
}

type Labels = Readonly<Record<string, string | number>>;

function textOf({ name, help, type, values }: Metric, isOpen: boolean): string {
  // There, a counter is named without the suffix that its samples have.
  const family = isOpen && type === 'counter' ? name.replace(/_total$/, '') : name;
  const lines = [`# HELP ${family} ${escaped(help)}`, `# TYPE ${family} ${type}`];
  for (const { metricName = name, labels, value, exemplar } of values) {
    const line = `${metricName}${labelsOf(labels)} ${numberOf(value)}`;
    lines.push(
      isOpen && exemplar
        ? `${line} # ${labelsOf(exemplar.labelSet) || '{}'} ${numberOf(exemplar.value)} ${exemplar.timestamp}`
        : line,
    );
  }
  return `${lines.join('\n')}\n`;
}

function labelsOf(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(String(value))}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

const escaped = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"');

function numberOf(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  return Number.isFinite(value) ? String(value) : value > 0 ? '+Inf' : '-Inf';
}
