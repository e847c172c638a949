#!/usr/bin/env bash
# What a Service must do, from inside a cluster: names resolve, every endpoint answers, node ports answer on every node, an endpoint
# that goes is called no more. With CONFORMANCE=1 also Kubernetes' own tests of Services, by sonobuoy.
set -euo pipefail
kubectl create namespace octoplane-check --dry-run=client -o yaml | kubectl apply -f -
trap 'kubectl delete namespace octoplane-check --wait=false' EXIT
run() { kubectl -n octoplane-check "$@"; }
answers() { run exec client -- sh -c "for i in \$(seq 40); do wget -qO- -T 3 $1 || echo failed; done" | sort -u; }
fail() { echo "FAILED  $1"; exit 1; }

run create deployment web --image=registry.k8s.io/e2e-test-images/agnhost:2.53 --replicas=3 -- /agnhost netexec --http-port=8080
run expose deployment web --type=NodePort --port=80 --target-port=8080
run run client --image=docker.io/library/busybox:1.37 --restart=Never -- sleep 3600
run rollout status deployment/web --timeout 180s
run wait pod/client --for condition=Ready --timeout 180s

[ "$(answers http://web/hostname | wc -l)" -eq 3 ] || fail 'three backends answer at the name of the Service'
port=$(run get service web -o jsonpath='{.spec.ports[0].nodePort}')
for node in $(kubectl get nodes -o jsonpath='{range .items[*]}{.status.addresses[0].address}{"\n"}{end}'); do
  [ "$(answers "http://$node:$port/hostname" | wc -l)" -eq 3 ] || fail "the node port answers on $node"
done
run scale deployment web --replicas=1
run wait pod -l app=web --for=delete --timeout 120s 2>/dev/null || run rollout status deployment/web
answers http://web/hostname | grep -q failed && fail 'no connection fails after endpoints went'
[ "$(answers http://web/hostname | wc -l)" -eq 1 ] || fail 'one backend is left'
echo 'ok      Services work'
if [ "${CONFORMANCE:-}" = 1 ]; then
  sonobuoy run --wait --e2e-focus='\[sig-network\] Services.*\[Conformance\]'
  sonobuoy results "$(sonobuoy retrieve)"
fi
