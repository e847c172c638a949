import { EtcdSource, type EtcdSourceOptions } from '@octoplane/controller/sources/etcd/etcd-source.ts';
import { pino } from 'pino';
import { SourceWatcher } from '../../support/source-watcher.ts';

/** A running etcd source, and what it has told. */
export class Watcher extends SourceWatcher {
  constructor(options: Omit<EtcdSourceOptions, 'name' | 'logger'>) {
    super(new EtcdSource({ ...options, name: 'etcd', logger: pino({ level: 'silent' }) }));
  }
}
