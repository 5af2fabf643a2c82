#!/bin/sh
# Duplicate events: a queue delivers the same event five times, and it takes effect once.
#
# The lock of the event's id keeps two from working on it at the same time; that it was done is written down with its effect,
# which here is one file. Where effect and note are in one database, write both in one transaction: between two systems a
# consumer that dies in between does it again.
#
# Prints: 5 deliveries, 1 effect
set -eu
gateway=${1:-http://127.0.0.1:8080}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

deliver() {
    lock=$gateway/locks/examples/events/$1
    id=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
    curl -sf -o /dev/null -X POST "$lock?ttl=10s&wait=30s&lease_id=$id"
    grep -qsx "$1" "$work/effects" || echo "$1" >>"$work/effects"
    curl -sf -o /dev/null -X DELETE -H "Lease-Id: $id" "$lock"
    echo >>"$work/deliveries"
}

for time in 1 2 3 4; do deliver order-42-paid & done
wait
deliver order-42-paid
echo "$(wc -l <"$work/deliveries") deliveries, $(wc -l <"$work/effects") effect"
