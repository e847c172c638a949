/** A package of package-lock.json (version 3), as far as it is looked at here. */
interface LockedPackage {
  readonly version?: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>;
}

export interface Lock {
  readonly packages: Readonly<Record<string, LockedPackage>>;
}

export interface ShippedManifest {
  readonly name: string;
  readonly version: string;
  readonly dependencies: Readonly<Record<string, string>>;
}

/**
 * The npm-shrinkwrap.json of what ships: the part of the workspace's lock file that its dependencies lead to. So the same release
 * installs the same files on every day and machine, those that the tests ran with.
 * @throws Error where the lock file would have to be laid out anew, because a dependency is nested under one of our services
 */
export function shrinkwrap(manifest: ShippedManifest, lock: Lock): object {
  const packages: Record<string, LockedPackage> = {};
  const waiting = Object.keys(manifest.dependencies).map((name) => ({ name, from: '', isOptional: false }));
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    const path = resolve(next.name, next.from, lock);
    if (path === null) {
      // Of another platform, and the registry did not have it when the lock file was written.
      if (next.isOptional) continue;
      throw new Error(`${next.name}, wanted by ${next.from || manifest.name}, is not hoisted in package-lock.json`);
    }
    const found = lock.packages[path];
    if (found === undefined || path in packages) continue;
    packages[path] = found;
    const { dependencies = {}, optionalDependencies = {}, peerDependencies = {}, peerDependenciesMeta = {} } = found;
    for (const name of Object.keys(dependencies)) waiting.push({ name, from: path, isOptional: false });
    for (const name of Object.keys(optionalDependencies)) waiting.push({ name, from: path, isOptional: true });
    for (const name of Object.keys(peerDependencies))
      if (!peerDependenciesMeta[name]?.optional) waiting.push({ name, from: path, isOptional: false });
  }
  const { name, version, dependencies } = manifest;
  const sorted = Object.fromEntries(Object.entries(packages).sort(([a], [b]) => (a < b ? -1 : 1)));
  return {
    name,
    version,
    lockfileVersion: 3,
    requires: true,
    packages: { '': { name, version, dependencies }, ...sorted },
  };
}

/** As Node finds it: in the package's own node_modules, then in those around it. */
function resolve(name: string, from: string, lock: Lock): string | null {
  for (let place = from; ; place = parentOf(place)) {
    const path = place === '' ? `node_modules/${name}` : `${place}/node_modules/${name}`;
    if (path in lock.packages) return path;
    if (place === '') return null;
  }
}

/** node_modules/a/node_modules/b -> node_modules/a; node_modules/a -> "" */
const parentOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/node_modules/')));
