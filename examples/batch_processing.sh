#!/bin/sh
# Batch processing: several workers go through the same list, and each part of it is worked on once.
#
# Who finds a part locked goes on to the next one. A part that is done says so where its result is: the lock only keeps
# two from working on it at once, it does not remember. A worker that dies leaves its part to the next round.
#
# Prints: 6 parts, each done once
set -eu
gateway=${1:-http://127.0.0.1:8080}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

work_through_the_list() {
    for part in a b c d e f; do
        lock=$gateway/locks/examples/batch/$part
        id=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
        curl -sf -o /dev/null -X POST "$lock?ttl=10s&lease_id=$id" || continue
        if ! [ -e "$work/$part.result" ]; then
            echo "$part" >>"$work/done"
            sleep 0.05
            touch "$work/$part.result"
        fi
        curl -sf -o /dev/null -X DELETE -H "Lease-Id: $id" "$lock"
    done
}

for worker in 1 2 3; do work_through_the_list & done
wait
# What was locked when its last visitor came by.
work_through_the_list
test -z "$(sort "$work/done" | uniq -d)"
echo "$(wc -l <"$work/done") parts, each done once"
