#!/bin/sh
# Maintenance: many work at the same time, and now and then one needs the place for itself.
#
# Those who work share the lock. Whoever wants it alone waits until the last of them has left, and from the moment it waits
# no new one is let in. A worker that does not extend its lease in time is believed to have left although it works: leases
# of workers are to be longer than their work, or held by a connection.
#
# Prints: nobody worked during maintenance
set -eu
gateway=${1:-http://127.0.0.1:8080}
lock=$gateway/locks/examples/site
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

work_for_a_while() {
    id=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
    curl -sf -o /dev/null -X POST "$lock?mode=shared&ttl=10s&wait=30s&owner=worker&lease_id=$id"
    echo in >>"$work/log"
    sleep 0.1
    echo out >>"$work/log"
    curl -sf -o /dev/null -X DELETE -H "Lease-Id: $id" "$lock"
}

maintain() {
    id=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
    curl -sf -o /dev/null -X POST "$lock?ttl=10s&wait=30s&owner=maintenance&lease_id=$id"
    echo begin >>"$work/log"
    sleep 0.2
    echo end >>"$work/log"
    curl -sf -o /dev/null -X DELETE -H "Lease-Id: $id" "$lock"
}

for worker in 1 2 3 4; do work_for_a_while & done
maintain &
for worker in 5 6 7 8; do work_for_a_while & done
wait
awk '$0 == "in" || $0 == "out" { if (busy) exit 1; inside += $0 == "in" ? 1 : -1 }
     $0 == "begin" { if (inside) exit 1; busy = 1 }
     $0 == "end" { busy = 0 }' "$work/log"
echo "nobody worked during maintenance"
