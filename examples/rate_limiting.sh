#!/bin/sh
# Rate limiting of concurrency: ten clients want a service that bears three at once.
#
# Each takes one of three slots, or waits for one. It bounds how many work at the same time, not how many begin in a
# second. A client that outlives its lease is counted no more and works all the same: let the ttl be longer than the work,
# or extend it.
#
# Prints: 10 served, never more than 3 at once
set -eu
gateway=${1:-http://127.0.0.1:8080}
slots=$gateway/semaphores/examples/service
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/inside"

use_the_service() {
    id=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
    curl -sf -o /dev/null -X POST "$slots?limit=3&ttl=10s&wait=30s&owner=$1&lease_id=$id"
    touch "$work/inside/$1"
    ls "$work/inside" | wc -l >>"$work/counted"
    sleep 0.1
    rm "$work/inside/$1"
    curl -sf -o /dev/null -X DELETE -H "Lease-Id: $id" "$slots"
}

for client in 1 2 3 4 5 6 7 8 9 10; do use_the_service "$client" & done
wait
test "$(sort -n "$work/counted" | tail -1)" -le 3
echo "$(wc -l <"$work/counted") served, never more than 3 at once"
