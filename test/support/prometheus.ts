import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const tool = (name: string): string =>
  fileURLToPath(new URL(`../../node_modules/.tools/usr/bin/${name}`, import.meta.url));
export const rulesFile = fileURLToPath(new URL('../../deploy/prometheus/octoplane.rules.yaml', import.meta.url));

/** Returns what promtool says; throws when it is not content. */
export const promtool = (...args: string[]): string =>
  execFileSync(tool('promtool'), args, { encoding: 'utf8', stdio: 'pipe' });

export interface PrometheusOptions {
  readonly directory: string;
  /** HOST:PORT by job. */
  readonly targets: Readonly<Record<string, readonly string[]>>;
  readonly port: number;
  /** Starts it in the place from which it is to scrape. */
  readonly within: <T>(act: () => T) => T;
}

export interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: number;
}

/** It has been started, and does not answer queries yet. */
class NotUpError extends Error {
  override readonly name = 'NotUpError';
}

/** A real Prometheus on loopback that scrapes five times a second and has our rules loaded. */
export class Prometheus implements AsyncDisposable {
  readonly #process: ChildProcess;
  #address = '';

  constructor({ directory, targets, port, within }: PrometheusOptions) {
    mkdirSync(directory, { recursive: true });
    const file = join(directory, 'prometheus.json');
    const jobs = Object.entries(targets).map(([name, hosts]) => ({
      job_name: name,
      static_configs: [{ targets: hosts }],
    }));
    const interval = { scrape_interval: '200ms', scrape_timeout: '200ms', evaluation_interval: '200ms' };
    // YAML is a superset of JSON.
    writeFileSync(file, JSON.stringify({ global: interval, rule_files: [rulesFile], scrape_configs: jobs }));
    const args = [
      `--config.file=${file}`,
      `--storage.tsdb.path=${join(directory, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--enable-feature=exemplar-storage',
      '--log.level=warn',
    ];
    this.#process = within(() => spawn(tool('prometheus'), args, { stdio: ['ignore', 'inherit', 'inherit'] }));
  }

  /** HOST:PORT at which it can be reached from here. */
  set address(address: string) {
    this.#address = address;
  }

  /** Its answer to an instant query, samples without a value (NaN) left out. Empty until it is up. */
  async query(expression: string): Promise<readonly Sample[]> {
    const { result } = await this.#get<{ result: { metric: Sample['metric']; value: [number, string] }[] }>(
      `query?query=${encodeURIComponent(expression)}`,
    );
    return result
      .map(({ metric, value }) => ({ metric, value: Number(value[1]) }))
      .filter(({ value }) => !Number.isNaN(value));
  }

  async exemplars(metric: string): Promise<readonly Readonly<Record<string, string>>[]> {
    const now = Date.now() / 1000;
    const series = await this.#get<{ exemplars: { labels: Record<string, string> }[] }[]>(
      `query_exemplars?query=${metric}&start=${now - 600}&end=${now + 60}`,
    );
    return series.flatMap(({ exemplars }) => exemplars.map(({ labels }) => labels));
  }

  /** Every `act` gives it something new to scrape, until the query has an answer. */
  async until(expression: string, act: () => Promise<unknown>, signal: AbortSignal): Promise<readonly Sample[]> {
    for (;;) {
      signal.throwIfAborted();
      const samples = await this.query(expression).catch((error: unknown) => {
        if (error instanceof NotUpError) return [];
        throw error;
      });
      if (samples.length > 0) return samples;
      await act();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode !== null) return;
    const exited = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await exited;
  }

  async #get<Data>(path: string): Promise<Data> {
    const response = await fetch(`http://${this.#address}/api/v1/${path}`).catch((cause: unknown) => {
      throw new NotUpError('no answer', { cause });
    });
    if (response.status === 503) throw new NotUpError(await response.text());
    const answer = (await response.json()) as { status: string; error?: string; data: Data };
    if (answer.status !== 'success') throw new Error(`${path}: ${answer.error}`);
    return answer.data;
  }
}
