#!/usr/bin/env python3
"""A holder that is paused beyond its lease, and a resource that refuses what it writes afterwards.

    fenced_write.py http://127.0.0.1:8080

Two workers write to one document in a database, each under the lock `fenced-write`. The first is stopped (SIGSTOP, as a long
garbage collection or a moved virtual machine would) while it holds the lock, until the second has taken the lock over
and written. Then it wakes up, believes that it still holds the lock, and writes with its old token. The table refuses
that, because it remembers the greatest token that it has seen. Nothing but Python's standard library is needed.
"""
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request


def acquire(gateway, owner, ttl):
    """Tries until the lock is ours; the grant."""
    while True:
        request = urllib.request.Request(f"{gateway}/locks/fenced-write?ttl={ttl}&owner={owner}", method="POST")
        try:
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refusal:
            if refusal.code not in (423, 503):
                raise
            time.sleep(0.05)


def write(database, token, text):
    """True if the resource took it: it takes no token lower than one that it has seen."""
    with database:
        statement = "UPDATE document SET text = ?, fence = ? WHERE fence <= ?"
        return database.execute(statement, (text, token, token)).rowcount == 1


def worker(gateway, path, owner, ttl):
    """Takes the lock, says so, waits for a line on standard input, writes."""
    grant = acquire(gateway, owner, ttl)
    print(json.dumps({"token": grant["fencing_token"]}), flush=True)
    sys.stdin.readline()
    accepted = write(sqlite3.connect(path), grant["fencing_token"], f"written by {owner}")
    print(json.dumps({"accepted": accepted}), flush=True)


class Worker:
    def __init__(self, gateway, path, owner, ttl):
        command = [sys.executable, __file__, gateway, path, owner, ttl]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.token = self.said()["token"]

    def said(self):
        return json.loads(self.process.stdout.readline())

    def stop(self):
        self.process.send_signal(signal.SIGSTOP)

    def wake(self):
        self.process.send_signal(signal.SIGCONT)

    def write(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        accepted = self.said()["accepted"]
        self.process.wait()
        return accepted


def main(gateway):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "document.db")
        database = sqlite3.connect(path)
        with database:
            database.execute("CREATE TABLE document (text TEXT, fence INTEGER)")
            database.execute("INSERT INTO document VALUES ('', 0)")
        stale_tried = stale_accepted = 0
        for _ in range(3):
            slow = Worker(gateway, path, "slow", "500ms")
            slow.stop()
            quick = Worker(gateway, path, "quick", "500ms")
            assert slow.token < quick.token, "a later grant has a greater token"
            assert quick.write(), "the holder writes"
            slow.wake()
            stale_tried += 1
            stale_accepted += slow.write()
        (text,) = database.execute("SELECT text FROM document").fetchone()
        print(json.dumps({"stale_writes_tried": stale_tried, "stale_writes_accepted": stale_accepted, "document": text}))


if __name__ == "__main__":
    main(sys.argv[1]) if len(sys.argv) == 2 else worker(*sys.argv[1:])
