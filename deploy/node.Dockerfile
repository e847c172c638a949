# The arm. It programs the kernel of the network namespace that it is started in, so it is user 0 there, with these capabilities
# and no others (docs/security.md says what each is for):
#
#   nftables, ipvs   NET_ADMIN
#   iptables         NET_ADMIN, and NET_RAW for the legacy flavour
#   ebpf             NET_ADMIN, SYS_ADMIN
#
# Its root file system may be read-only: it writes to /var/lib/octoplane (the journal) and /run (the lock of iptables).
#
#   docker build -f deploy/node.Dockerfile -t octoplane-node .
#
# BASE is what it is built on and runs on: Debian with Node 24 and npm.
ARG BASE=docker.io/library/node:24-bookworm-slim

FROM ${BASE} AS build
WORKDIR /src
COPY package.json package-lock.json ./
COPY services/cli/package.json services/cli/
COPY services/controller/package.json services/controller/
COPY services/model/package.json services/model/
COPY services/node/package.json services/node/
# Not `npm ci`: it refuses a lock file made where the registry lacked a binary for some other platform.
RUN npm install --no-save --no-audit --no-fund --ignore-scripts --loglevel=error
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends clang libbpf-dev linux-libc-dev \
 && rm -rf /var/lib/apt/lists/*
COPY . .
RUN node deploy/build.ts \
 && cd dist && npm ci --omit=dev --no-audit --no-fund --ignore-scripts --loglevel=error \
 && find . -name '*.map' -delete

FROM ${BASE}
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends libnftables1 libbpf1 iptables nftables iproute2 \
 && rm -rf /var/lib/apt/lists/*
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="octoplane-node" \
      org.opencontainers.image.description="Octoplane's arm: programs a node's kernel, reads back, acknowledges" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /src/dist /opt/octoplane
RUN ln -s /opt/octoplane/main.js /usr/local/bin/octoplane
ENV OCTOPLANE_TLS_CERT=/etc/octoplane/tls/tls.crt \
    OCTOPLANE_TLS_KEY=/etc/octoplane/tls/tls.key \
    OCTOPLANE_TLS_CA=/etc/octoplane/tls/ca.crt
VOLUME /var/lib/octoplane
EXPOSE 10249 10256
# Alive, not healthy: /healthz fails on purpose on a node that is leaving.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:10256/livez').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["octoplane"]
CMD ["node"]
