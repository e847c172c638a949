# The brain. Nothing in it needs the kernel, so it runs as nobody, and its root file system may be read-only.
#
#   docker build -f deploy/controller.Dockerfile -t octoplane-controller .
#   docker buildx build --platform linux/amd64,linux/arm64 -f deploy/controller.Dockerfile ...
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
COPY . .
RUN node deploy/build.ts --without-programs \
 && cd dist && npm ci --omit=dev --no-audit --no-fund --ignore-scripts --loglevel=error \
 && find . -name '*.map' -delete

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="octoplane-controller" \
      org.opencontainers.image.description="Octoplane's brain: computes every node's rule set and streams it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /src/dist /opt/octoplane
RUN ln -s /opt/octoplane/main.js /usr/local/bin/octoplane
ENV OCTOPLANE_LISTEN=0.0.0.0:12090 \
    OCTOPLANE_HTTP=0.0.0.0:12091 \
    OCTOPLANE_TLS_CERT=/etc/octoplane/tls/tls.crt \
    OCTOPLANE_TLS_KEY=/etc/octoplane/tls/tls.key \
    OCTOPLANE_TLS_CA=/etc/octoplane/tls/ca.crt
USER 65532:65532
EXPOSE 12090 12091
# Ready is for whoever sends nodes here (depends_on, a load balancer); a controller that waits for its source is not ill.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:12091/readyz').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["octoplane"]
CMD ["controller"]
