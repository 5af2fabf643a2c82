#!/bin/sh
# File systems: the key of a lock is the path of a file.
#
# Who reads shares the lock of a path, who writes has it alone, and a rename has both of its paths at once. The locks are advisory:
# what does not ask for them is not kept out, and a lock of a directory is not one of what is in it. A writer that may be
# paused writes to a new file and renames it, so that a late one is whole at least.
#
# Prints: every reader found a whole file
set -eu
gateway=${1:-http://127.0.0.1:8080}
locks=$gateway/locks
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/srv/data"

new_id() { head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n'; }
give_back() { curl -sf -o /dev/null -X DELETE -H "Lease-Id: $2" "$1"; }

write_file() {
    id=$(new_id)
    curl -sf -o /dev/null -X POST "$locks/examples/srv/data/$1?ttl=10s&wait=30s&lease_id=$id"
    printf begin >"$work/srv/data/$1"
    sleep 0.05
    printf ' end\n' >>"$work/srv/data/$1"
    give_back "$locks/examples/srv/data/$1" "$id"
}

read_file() {
    id=$(new_id)
    curl -sf -o /dev/null -X POST "$locks/examples/srv/data/$1?mode=shared&ttl=10s&wait=30s&lease_id=$id"
    [ ! -e "$work/srv/data/$1" ] || cat "$work/srv/data/$1" >>"$work/read"
    give_back "$locks/examples/srv/data/$1" "$id"
}

rename_file() {
    id=$(new_id)
    wanted="{\"keys\":[\"examples/srv/data/$1\",\"examples/srv/data/$2\"],\"ttl\":\"10s\",\"wait\":\"30s\",\"lease_id\":\"$id\"}"
    curl -sf -o /dev/null -X POST -H 'Content-Type: application/json' -d "$wanted" "$locks"
    mv "$work/srv/data/$1" "$work/srv/data/$2"
    give_back "$locks" "$id"
}

write_file draft
for time in 1 2 3; do write_file draft & read_file draft & read_file draft & done
wait
rename_file draft final &
read_file final &
wait
read_file final
grep -qv '^begin end$' "$work/read" || echo "every reader found a whole file"
