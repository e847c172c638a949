import type { Logger } from 'pino';
import type { SourceOption } from '../options.ts';
import { StartError } from '../start-error.ts';
import { FileSource } from './file/file-source.ts';
import type { Source } from './source.ts';

/** Every kind of source there is. */
export function openSource(
  { name, kind, target }: SourceOption,
  { logger }: { readonly logger: Logger; readonly kubeconfig: string | null },
): Source {
  switch (kind) {
    case 'file':
      return new FileSource({ name, directory: target, logger });
    case 'etcd':
    case 'kubernetes':
      throw new StartError('SOURCE', `The ${kind} source is not part of this release; use --source file:DIR.`);
  }
}
