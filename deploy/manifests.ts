/**
 * `npm run manifests`: the chart as plain manifests, for those who have no Helm. Two words in them are to be replaced, and a Secret
 * is to be made; the head of the file says how.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { renderChart } from '../test/support/helm/chart.ts';

const head = `# Made from deploy/helm/octoplane by \`npm run manifests\`; do not edit.
#
#   octoplane certs ca && octoplane certs controller --host CONTROLLER_HOST
#   kubectl -n kube-system create secret generic octoplane-controller-tls --type=kubernetes.io/tls \\
#     --from-file=certs/controller/tls.crt --from-file=certs/controller/tls.key --from-file=certs/controller/ca.crt
#   sed 's/API_SERVER_HOST/10.0.0.1/; s/CONTROLLER_HOST/10.0.0.1/' octoplane.yaml | kubectl apply -f -
#
# API_SERVER_HOST: the API server as it is reached without a Service. CONTROLLER_HOST: the machine of the controller likewise.
`;

export const plainManifests = (): string =>
  head +
  renderChart({
    kubernetesApi: { host: 'API_SERVER_HOST' },
    controller: { addresses: ['CONTROLLER_HOST:12090'], tls: { source: 'secret' } },
  }).text;

if (process.argv[1] === import.meta.filename)
  writeFileSync(join(import.meta.dirname, 'kubernetes/octoplane.yaml'), plainManifests());
