#!/bin/sh
# Scheduled tasks: cron starts the same line on every machine, and it runs on one of them.
#
# Clocks differ, and the task may be done on the first machine before cron on the last one starts it: --min-hold keeps
# the lock until all of them have come by. The others leave with exit code 121. If the machine dies in the middle of the
# task nobody finishes it until the next time: a task has to be one that can be done again.
#
# Prints: 1 of 3 machines ran it
set -eu
export REDLOCKD_SERVER=${1:-http://127.0.0.1:8080}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cron_on() {
    redlockd exec --key examples/nightly --ttl 30s --min-hold 20s --owner "$1" -- sh -c "echo ran on $1 >>$work/log" 2>/dev/null || test $? -eq 121
}

cron_on one
cron_on two &
cron_on three &
wait
echo "$(wc -l <"$work/log") of 3 machines ran it"
