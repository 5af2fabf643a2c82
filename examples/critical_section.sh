#!/bin/sh
# Critical section: the shortest script that is right.
#
# The lease id is the script's own, so that it can ask again after a lost answer and be told of the same lease. The trap gives
# the lock back however the script ends; if even that can't be, the ttl does. What takes longer than the ttl must extend
# the lease, or use `redlockd exec`, which does and ends the command when that fails.
#
# Prints: nobody else is here
set -eu
gateway=${1:-http://127.0.0.1:8080}
lock=$gateway/locks/examples/critical-section
id=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')

if curl -sf -o /dev/null -X POST "$lock?ttl=30s&wait=5s&lease_id=$id"; then
    trap 'curl -sf -o /dev/null -X DELETE -H "Lease-Id: $id" "$lock"' EXIT
    curl -s -o /dev/null -w '%{http_code}' -X POST "$lock" | grep -qx 423 && echo "nobody else is here"
fi
