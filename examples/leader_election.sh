#!/bin/sh
# Leader election: of several candidates one leads, and when it is gone another one does.
#
# A candidate is a command that waits for the lock; whoever runs, leads. The fencing token is the term: it grows with
# every leader, so that whoever takes orders can refuse those of an earlier term. That check is what makes it safe: for a
# moment an old leader that was paused may believe that it still leads.
#
# Prints: a second leader, with a greater term
set -eu
export REDLOCKD_SERVER=${1:-http://127.0.0.1:8080}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

run_for_leader() {
    exec redlockd exec --key examples/leader --ttl 2s --wait 1m -- sh -c 'echo "$REDLOCKD_FENCING_TOKEN" >>"$0/terms"; exec sleep 60' "$work" 2>/dev/null
}
# Of so many leaders in all.
until_led_by() { until [ "$(cat "$work/terms" 2>/dev/null | wc -l)" -ge "$1" ]; do sleep 0.05; done; }

run_for_leader & first=$!
until_led_by 1
run_for_leader & second=$!
kill "$first"
until_led_by 2
kill "$second"
wait
sort -nc "$work/terms" && echo "a second leader, with a greater term"
