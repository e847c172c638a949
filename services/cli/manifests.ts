import { readFileSync } from 'node:fs';
import { type DocumentText, locate, parse, splitDocuments } from '@octoplane/controller/sources/file/documents.ts';
import { type Fields, formatProblem, isFields, type Path } from '@octoplane/model/findings.ts';
import { formatId, idOf, listItems, type ObjectId, project } from '@octoplane/model/project.ts';
import { CliError } from './errors.ts';

export interface Manifest {
  readonly id: ObjectId;
  readonly manifest: Fields;
}

export interface Manifests {
  readonly manifests: readonly Manifest[];
  /** Worth a line for the user. */
  readonly remarks: readonly string[];
}

/**
 * All manifests of files, "-" being the standard input.
 * @throws CliError naming everything that is wrong with its place; so nothing is written of a set that is bad in one part.
 */
export function readManifests(files: readonly string[]): Manifests {
  const manifests: Manifest[] = [];
  const remarks: string[] = [];
  const problems: string[] = [];
  for (const file of files) {
    const name = file === '-' ? 'stdin' : file;
    const text = readText(file, name);
    for (const document of splitDocuments(text, file.endsWith('.json') ? 'json' : 'yaml')) {
      const parsed = parse(document);
      if (parsed.t === 'broken') {
        problems.push(`${name}:${parsed.place.line}:${parsed.place.column}: ${parsed.reason}`);
        continue;
      }
      parsed.values.forEach((value, i) => {
        if (value === null) return;
        const place = placer(name, document, i);
        const items = listItems(value);
        if (items === null) take(value, [], place);
        else for (const [at, item] of items.entries()) take(item, ['items', at], place);
      });
    }
  }
  if (problems.length > 0) throw new CliError(`nothing was changed:\n${problems.join('\n')}`);
  if (manifests.length === 0)
    throw new CliError(`${files.join(', ')} has no Service, EndpointSlice, Node or ServiceExport; nothing was changed`);
  return { manifests, remarks };

  function take(value: unknown, base: Path, place: (path: Path) => string): void {
    const projection = project(value, { revision: '', changedAtUs: null });
    if (projection.t === 'foreign')
      remarks.push(`${place(base)}: ${projection.what} is not for a proxy and is ignored`);
    else if (projection.t === 'refused') {
      const what = projection.id === null ? '' : `${formatId(projection.id)}: `;
      for (const problem of projection.problems)
        problems.push(`${place([...base, ...problem.path])}: ${what}${formatProblem(problem)}`);
    } else if (isFields(value)) {
      const id = idOf(projection.object);
      manifests.push({ id, manifest: value });
      for (const warning of projection.warnings)
        remarks.push(`${place([...base, ...warning.path])}: ${formatId(id)}: ${formatProblem(warning)}`);
    }
  }
}

function placer(file: string, document: DocumentText, value: number): (path: Path) => string {
  return (path) => {
    const { line, column } = locate(document, value, path);
    return `${file}:${line}:${column}`;
  };
}

function readText(file: string, name: string): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8');
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new CliError(`${name} cannot be read (${reason}); name a file, or - for the standard input`, { cause });
  }
}
