import type { ClusterObject } from '@octoplane/model/objects.ts';

export interface LossGuardOptions {
  /** How long a loss must last to be believed. Default 10,000 ms: longer than a copy, a checkout or a remount takes. */
  readonly holdMs?: number;
  /** Losses of fewer endpoints are believed at once. Default 100: whoever deletes a few Services by hand wants to see it happen. */
  readonly endpoints?: number;
  /** The same for Services. Default 20. */
  readonly services?: number;
}

export const defaultHoldMs = 10_000;

/**
 * Is it likelier that the source lost its objects than that somebody deleted them? Most Services or endpoints gone in one
 * reading is what a half-written directory, an empty mount or a broken list looks like. Pure: the source holds such a loss back for holdMs
 * and reports it; a loss that lasts that long, or shrinks in the meantime, is let through.
 */
export function isSuspiciousLoss(
  told: { readonly services: number; readonly endpoints: number },
  missing: readonly { readonly object: ClusterObject }[],
  options: LossGuardOptions,
): { readonly t: 'plausible' } | { readonly t: 'suspicious'; readonly what: string } {
  let services = 0;
  let endpoints = 0;
  for (const { object } of missing) {
    if (object.kind === 'Service') services++;
    if (object.kind === 'EndpointSlice') endpoints += object.slice.endpoints.length;
  }
  const most =
    (endpoints >= (options.endpoints ?? 100) && endpoints * 2 > told.endpoints) ||
    (services >= (options.services ?? 20) && services * 2 > told.services);
  if (!most) return { t: 'plausible' };
  const what = `${services} of ${told.services} Services and ${endpoints} of ${told.endpoints} endpoints are gone at once`;
  return { t: 'suspicious', what };
}
