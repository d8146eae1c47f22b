#!/bin/sh
# Prints a kubeconfig for `coracle node --bootstrap-kubeconfig`: the cluster of kubectl's current context, and a token
# that may ask for the identities of nodes, and for nothing else, for an hour.
#
#   deploy/bootstrap.sh > bootstrap.conf
#   DURATION=10m deploy/bootstrap.sh > bootstrap.conf
set -eu
umask 077

fail() {
    echo "bootstrap.sh: $*" >&2
    exit 1
}

command -v kubectl >/dev/null || fail "there is no kubectl on the PATH"
here=$(cd "$(dirname "$0")" && pwd)
cluster() {
    kubectl config view --raw --minify --flatten -o "jsonpath={.clusters[0].cluster.$1}"
}

server=$(cluster server) || fail "kubectl has no current context that leads to a cluster; see kubectl config get-contexts"
authority=$(cluster certificate-authority-data)
if [ -z "$authority" ]; then
    # kubectl trusts the machine's authorities, or none: the cluster has its own in each namespace.
    authority=$(kubectl -n kube-system get configmap kube-root-ca.crt -o 'jsonpath={.data.ca\.crt}' | base64 | tr -d '\n')
    [ -n "$authority" ] || fail "the cluster has no ConfigMap kube-root-ca.crt, and the kubeconfig no authority"
fi
kubectl apply -f "$here/bootstrap.yaml" >&2
token=$(kubectl -n kube-system create token coracle-bootstrap --duration "${DURATION:-1h}")

cat <<KUBECONFIG
apiVersion: v1
kind: Config
clusters:
  - name: cluster
    cluster:
      server: $server
      certificate-authority-data: $authority
users:
  - name: bootstrap
    user:
      token: $token
contexts:
  - name: bootstrap
    context:
      cluster: cluster
      user: bootstrap
current-context: bootstrap
KUBECONFIG
