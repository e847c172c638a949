import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Server } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { ReflectionService } from '@grpc/reflection';

/** Beside the sources, and beside a bundle. */
const places = ['../../../proto', './proto'];

/** Server reflection over the .proto files themselves. False: they are not there, and reflection is not offered. */
export function addReflection(server: Server): boolean {
  const directory = places
    .map((place) => fileURLToPath(new URL(place, import.meta.url)))
    .find((path) => existsSync(path));
  if (directory === undefined) return false;
  const files = ['octoplane/v1/stream.proto', 'octoplane/v1/admin.proto'];
  new ReflectionService(loadSync(files, { includeDirs: [directory], keepCase: true })).addToServer(server);
  return true;
}
