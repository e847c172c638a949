import type { NodeName } from '@octoplane/model/keys.ts';
import { nodeName } from '@octoplane/model/keys.ts';

/** What a certificate lets its holder do. A certificate may carry several. */
export type Identity = { readonly t: 'node'; readonly name: NodeName } | { readonly t: 'admin'; readonly name: string };

/** As node:tls describes a peer's certificate (getPeerCertificate). */
export interface PeerCertificate {
  readonly subject?: { readonly CN?: string | string[]; readonly O?: string | string[] };
  readonly subjectaltname?: string;
}

const nodeUri = 'octoplane://node/';
const adminUri = 'octoplane://admin/';
/** As kubelets have it. */
const nodeCommonName = 'system:node:';
const adminOrganisation = 'octoplane:admins';

/**
 * Identities that a certificate names:
 *   node   URI SAN octoplane://node/NAME, or subject CN=system:node:NAME
 *   admin  URI SAN octoplane://admin/NAME, or subject O=octoplane:admins
 * The certificate has been verified before; this only reads names.
 */
export function identitiesOf(certificate: PeerCertificate): Identity[] {
  const identities: Identity[] = [];
  for (const uri of urisOf(certificate.subjectaltname ?? '')) {
    if (uri.startsWith(nodeUri)) identities.push({ t: 'node', name: nodeName(uri.slice(nodeUri.length)) });
    if (uri.startsWith(adminUri)) identities.push({ t: 'admin', name: uri.slice(adminUri.length) });
  }
  const commonNames = valuesOf(certificate.subject?.CN);
  for (const name of commonNames)
    if (name.startsWith(nodeCommonName))
      identities.push({ t: 'node', name: nodeName(name.slice(nodeCommonName.length)) });
  if (valuesOf(certificate.subject?.O).includes(adminOrganisation))
    identities.push({ t: 'admin', name: commonNames[0] ?? adminOrganisation });
  return identities;
}

/**
 * Node writes names as "URI:a, DNS:b" and quotes, as a JSON string, a value that contains what could be mistaken for a
 * separator (CVE-2021-44532). A quoted value is never one of ours, so it is passed over, with all that is inside it.
 */
function urisOf(subjectAltName: string): string[] {
  const unquoted = subjectAltName.replaceAll(/"(?:[^"\\]|\\.)*"/g, '');
  return unquoted.split(', ').flatMap((name) => (name.startsWith('URI:') ? [name.slice('URI:'.length)] : []));
}

const valuesOf = (value: string | string[] | undefined): string[] =>
  value === undefined ? [] : Array.isArray(value) ? value : [value];
