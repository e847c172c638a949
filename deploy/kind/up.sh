#!/usr/bin/env bash
# A kind cluster whose Services are Octoplane's, and the checks of check.sh in it. Needs docker, kind, kubectl and helm.
#   DRIVER=nftables|ebpf|iptables|ipvs deploy/kind/up.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
cluster=${CLUSTER:-octoplane}

docker build -q -f deploy/controller.Dockerfile -t octoplane/octoplane-controller:local .
docker build -q -f deploy/node.Dockerfile -t octoplane/octoplane-node:local .
kind get clusters | grep -qx "$cluster" || kind create cluster --name "$cluster" --config deploy/kind/kind.yaml
kind load docker-image --name "$cluster" octoplane/octoplane-controller:local octoplane/octoplane-node:local

address=$(kubectl get node "$cluster-control-plane" -o jsonpath='{.status.addresses[?(@.type=="InternalIP")].address}' | awk '{ print $1 }')
helm upgrade --install octoplane deploy/helm/octoplane --namespace kube-system \
  --set image.registry=octoplane --set image.tag=local --set image.pullPolicy=Never \
  --set kubernetesApi.host="$address" --set "controller.addresses={$address:12090}" --set controller.replicas=1 \
  --set node.driver="${DRIVER:-nftables}" --set node.clusterCidr=10.244.0.0/16
kubectl -n kube-system rollout status deployment/octoplane-controller --timeout 120s
kubectl -n kube-system rollout status daemonset/octoplane-node --timeout 120s
deploy/kind/check.sh
