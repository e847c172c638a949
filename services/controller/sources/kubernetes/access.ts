/** How an API server is reached, and as whom. */
export interface Access {
  /** "https://10.0.0.1:6443", perhaps with a path; no trailing slash. */
  readonly server: string;
  readonly tls: TlsAccess;
  readonly proxyUrl: string | null;
  /** Authorization and impersonation. */
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
}

export interface TlsAccess {
  /** PEM; null: those that Node trusts. */
  readonly ca: string | null;
  readonly cert: string | null;
  readonly key: string | null;
  /** Name that the server's certificate must carry; null: the host of `server`. */
  readonly servername: string | null;
  /** insecure-skip-tls-verify. */
  readonly unverified: boolean;
}

/** Where access comes from: a kubeconfig, or the pod's service account. Files and plugins are read again in time. */
export interface AccessSource {
  /**
   * What holds now. Cheap when nothing is due.
   * @throws KubeError CREDENTIALS, ABORTED
   */
  current(signal: AbortSignal): Promise<Access>;
  /** What was given last was not taken: the next one is read anew. */
  renew(): void;
}
