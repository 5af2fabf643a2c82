#!/bin/sh
# Transactions over several locks: two transfers between the same accounts, in opposite directions.
#
# Both accounts are locked at once, all or none, whatever order they are named in, so that the two can't wait for each other for
# good. A lock undoes nothing: a transfer that dies between its two writes leaves one of them, so write down first what is
# to be done, or do both in one transaction of a database.
#
# Prints: 200 in all after 20 transfers
set -eu
gateway=${1:-http://127.0.0.1:8080}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo 100 >"$work/a"
echo 100 >"$work/b"

transfer() {
    id=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
    wanted="{\"keys\":[\"examples/accounts/$1\",\"examples/accounts/$2\"],\"ttl\":\"10s\",\"wait\":\"30s\",\"lease_id\":\"$id\"}"
    curl -sf -o /dev/null -X POST -H 'Content-Type: application/json' -d "$wanted" "$gateway/locks"
    echo $(($(cat "$work/$1") - 7)) >"$work/$1"
    echo $(($(cat "$work/$2") + 7)) >"$work/$2"
    echo >>"$work/transfers"
    curl -sf -o /dev/null -X DELETE -H "Lease-Id: $id" "$gateway/locks"
}

(for time in 1 2 3 4 5 6 7 8 9 10; do transfer a b; done) &
(for time in 1 2 3 4 5 6 7 8 9 10; do transfer b a; done) &
wait
echo "$(($(cat "$work/a") + $(cat "$work/b"))) in all after $(wc -l <"$work/transfers") transfers"
