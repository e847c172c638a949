import type { ControllerOptions } from '../../../services/controller/options.ts';

/** A controller on ports of this machine's loopback that nobody else has, plaintext, without state; what a test is about it names. */
export const controllerOptions = (
  options: Pick<ControllerOptions, 'sources'> & Partial<ControllerOptions>,
): ControllerOptions => ({
  listen: '127.0.0.1:0',
  http: '127.0.0.1:0',
  serviceCidrs: [],
  stateDir: null,
  settleMs: 0,
  kubeconfig: null,
  gateClients: [],
  security: { t: 'insecure', allowRemote: false },
  release: 'test',
  ...options,
});
