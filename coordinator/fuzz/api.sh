#!/usr/bin/env bash
# Fuzzes the operator API of a fresh coordinator by its own OpenAPI document, with schemathesis: no 5xx, and every
# answer as the document says. Nothing leaves the box: all of it happens in a network namespace with a loopback only.
# Needs root.
#
#   coordinator/fuzz/api.sh COORDINATOR SCHEMATHESIS [SECONDS]
set -euo pipefail

if [ "${1-}" != "--inside" ]; then
    exec unshare --net -- "$0" --inside "$(realpath "$1")" "$(realpath --no-symlinks "$2")" "${3:-300}" "$(realpath docs/api/openapi.json)"
fi
coordinator=$2 schemathesis=$3 seconds=$4 document=$5

ip link set lo up
# every address is this box: what is sent somewhere is refused there, and not for want of a route
ip route add local default dev lo
folder=$(mktemp --directory)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"

cat > vetting.yaml <<EOF
listen: {https: '127.0.0.1:8443', http: '127.0.0.1:8080'}
free_space: {warning: 1B, refuse: 1B}
EOF
"$coordinator" init --keep-config > /dev/null
"$coordinator" serve > serve.out 2> serve.log &
server=$!
until grep -q '^listening' serve.out; do
    kill -0 "$server" || { cat serve.log >&2; exit 1; }
    sleep 0.1
done

# something to ask for: random names are found nowhere
echo 'memory: {total_gib: 1}' > spec.yaml
for number in 1 2 3 4; do
    "$coordinator" model add "model$number" --spec spec.yaml
    "$coordinator" host add "node$number" --mac "52:54:00:ab:cd:0$number" --spec spec.yaml --wol-broadcast-ip 127.0.0.1
    "$coordinator" run start "node$number"
    "$coordinator" enrolment create
    "$coordinator" user add "user$number" --role viewer <<< 'correct horse battery'
done > /dev/null 2>&1
"$coordinator" run abort 1 > /dev/null

cat > schemathesis.toml <<'EOF'
[headers]
Authorization = "Bearer ${VETTING_TOKEN}"

[dictionaries]
names = { values = ["node1", "node2", "node3", "node4", "model1", "model2", "user1", "user2"] }
numbers = { values = [1, 2, 3, 4] }
cards = { values = ["52:54:00:ab:cd:01", "52-54-00-AB-CD-42", "525400abcd43"] }
specs = { values = ["memory: {total_gib: 2}", "model: model1\n", "memory: {total_gib: {min: 1}}\nthresholds: []\n", "a: ["] }
texts = { values = ["18446744073709551616", "../../etc/passwd", "a\u0000b", "%00", "''; --", "\ud7ff\uffff", "1h30m", "2026-11-26 10:00:00"] }

[parameters]
"path.name" = { dictionary = "names", probability = 0.7 }
"path.run" = { dictionary = "numbers", probability = 0.7 }
"path.id" = { dictionary = "numbers", probability = 0.7 }
"path.number" = { dictionary = "numbers", probability = 0.7 }
"path.mac" = { dictionary = "cards", probability = 0.5 }
"query.host" = { dictionary = "names", probability = 0.5 }
"query.run" = { dictionary = "numbers", probability = 0.5 }
"body.host" = { dictionary = "names", probability = 0.7 }
"body.mac" = { dictionary = "cards", probability = 0.7 }
"body.expected_spec_yaml" = { dictionary = "specs", probability = 0.7 }
"body.notes" = { dictionary = "texts", probability = 0.3 }
"body.reason" = { dictionary = "texts", probability = 0.3 }

# the trouble of a device or a receiver, which nobody is there to play, is passed on
[[operations]]
include-path-regex = "/(power|pdu|media|test)(/|$)"
checks.not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "502"]
EOF
export VETTING_TOKEN
VETTING_TOKEN=$(cat var/operator.token)

# left out: what takes the token away, with which all is asked
status=0
"$schemathesis" --config-file schemathesis.toml run "$document" \
    --url https://127.0.0.1:8443 --tls-verify var/tls/ca.pem \
    --include-path-regex '^/api/v1/' --exclude-operation-id delete_tokens_id \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,unsupported_method \
    --max-time "$seconds" --continue-on-failure --max-examples 1000000 --workers 2 --no-color --suppress-health-check all --warnings off || status=$?
if ! kill -0 "$server"; then
    echo "the coordinator died" >&2
    status=1
fi
if grep -E 'panicked|ERROR' serve.log; then
    echo "the coordinator's log has errors" >&2
    status=1
fi
exit "$status"
