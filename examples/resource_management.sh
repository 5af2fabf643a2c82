#!/bin/sh
# Resource management: one program at a time uses a device that has no queue of its own.
#
# Each program holds the lock by a connection: `curl -N` in the background, which waits for its turn. However the program
# ends, its connection ends with it and the next one gets the device. A program that is paused while it prints may wake up
# in the middle of somebody else's document: a printer checks no fencing tokens, so keep what must not be torn short.
#
# Prints: 3 documents, none torn apart
set -eu
gateway=${1:-http://127.0.0.1:8080}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

print_document() {
    curl -sfN -X POST -H 'Accept: text/event-stream' "$gateway/locks/examples/printer?ttl=10s&wait=30s&owner=$1" >"$work/$1" &
    holder=$!
    until grep -q '^event: acquired' "$work/$1"; do kill -0 "$holder" && sleep 0.05; done
    for page in 1 2 3; do echo "$1" >>"$work/paper"; done
    kill "$holder"
}

for program in alice bob carol; do print_document "$program" & done
wait
echo "$(uniq "$work/paper" | wc -l) documents, none torn apart"
