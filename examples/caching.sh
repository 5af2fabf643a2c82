#!/bin/sh
# Caching with single flight: of many who miss the same entry one makes it, and the others use that.
#
# Whoever gets the lock looks again before it works: somebody may have been there. If whoever makes the entry dies, the
# next one makes it after the ttl. Twice at the same time is possible then, and harmless as long as both make the same.
#
# Prints: 6 readers, made 1 times
set -eu
gateway=${1:-http://127.0.0.1:8080}
lock=$gateway/locks/examples/cache/report
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

read_report() {
    if ! [ -e "$work/report" ]; then
        id=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
        curl -sf -o /dev/null -X POST "$lock?ttl=10s&wait=30s&lease_id=$id"
        if ! [ -e "$work/report" ]; then
            echo made >>"$work/times"
            sleep 0.2
            echo "a costly report" >"$work/new" && mv "$work/new" "$work/report"
        fi
        curl -sf -o /dev/null -X DELETE -H "Lease-Id: $id" "$lock"
    fi
    cat "$work/report" >>"$work/read"
}

for reader in 1 2 3 4 5 6; do read_report & done
wait
echo "$(grep -c 'a costly report' "$work/read") readers, made $(wc -l <"$work/times") times"
