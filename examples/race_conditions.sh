#!/bin/sh
# Race conditions: several processes read a value, change it and write it back.
#
# Without the lock some of the forty additions would be lost. Where the value is in a database a single statement
# (`SET n = n + 1`) needs no lock at all: take one only where reading and writing can't be one step.
#
# Prints: 40
set -eu
gateway=${1:-http://127.0.0.1:8080}
lock=$gateway/locks/examples/counter
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

add_one() {
    id=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
    curl -sf -o /dev/null -X POST "$lock?ttl=10s&wait=30s&lease_id=$id"
    echo $(($(cat "$work/counter") + 1)) >"$work/counter"
    curl -sf -o /dev/null -X DELETE -H "Lease-Id: $id" "$lock"
}

echo 0 >"$work/counter"
for process in 1 2 3 4 5 6 7 8; do
    (for time in 1 2 3 4 5; do add_one; done) &
done
wait
cat "$work/counter"
