#!/usr/bin/env bash
# Fuzzes the operator API of a fresh coordinator by its own OpenAPI document, with schemathesis: no 5xx, and every
# answer as the document says. Nothing leaves the box: all of it happens in a network namespace with a loopback only.
#
#   coordinator/fuzz/api.sh COORDINATOR SCHEMATHESIS [SECONDS]
set -euo pipefail

if [ "${1-}" != "--inside" ]; then
    exec unshare --net -- "$0" --inside "$(realpath "$1")" "$(realpath --no-symlinks "$2")" "${3:-300}" "$(realpath docs/api/openapi.json)"
fi
coordinator=$2 schemathesis=$3 seconds=$4 document=$5

ip link set lo up
folder=$(mktemp --directory)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"

cat > vetting.yaml <<EOF
listen: {https: '127.0.0.1:8443', http: '127.0.0.1:8080'}
free_space: {warning: 1B, refuse: 1B}
EOF
"$coordinator" init --keep-config > /dev/null
# an operation that takes the token away would end the test
"$coordinator" serve > serve.out 2> serve.log &
server=$!
until grep -q '^listening' serve.out; do
    kill -0 "$server" || { cat serve.log >&2; exit 1; }
    sleep 0.1
done

cat > schemathesis.toml <<'EOF'
[headers]
Authorization = "Bearer ${VETTING_TOKEN}"
EOF
export VETTING_TOKEN
VETTING_TOKEN=$(cat var/operator.token)

status=0
"$schemathesis" --config-file schemathesis.toml run "$document" \
    --url https://127.0.0.1:8443 --tls-verify var/tls/ca.pem \
    --include-path-regex '^/api/v1/' --exclude-operation-id delete_tokens_id \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,unsupported_method \
    --max-time "$seconds" --continue-on-failure --max-examples 1000000 --workers 2 --no-color --suppress-health-check all || status=$?
if ! kill -0 "$server"; then
    echo "the coordinator died" >&2
    status=1
fi
if grep -E 'panicked|ERROR' serve.log; then
    echo "the coordinator's log has errors" >&2
    status=1
fi
exit "$status"
