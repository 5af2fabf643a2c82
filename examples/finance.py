#!/usr/bin/env python3
"""Finance: a balance that is read, calculated with and written back, with a fence.

Forty deposits under the lock of the account, each written with its fencing token, which the table keeps. Then the lock of a
clerk is taken away while it calculates; another clerk writes, and what the first one writes afterwards changes no row.
Here the lock is for order and the fence for safety: without the fence the late write would undo the other one, whatever
lock service there is. Money wants both, and a ledger of entries instead of a balance that is overwritten.

Prints: balance 140, the late write was refused
"""
import json
import sqlite3
import sys
import tempfile
import threading
import urllib.request

GATEWAY = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
LOCK = f"{GATEWAY}/locks/examples/accounts/checking"
PATH = tempfile.NamedTemporaryFile(suffix=".db")


def ask(method, url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers)) as answer:
        return json.load(answer)


def acquire(clerk):
    return ask("POST", f"{LOCK}?ttl=10s&wait=30s&owner={clerk}")


def release(grant):
    ask("DELETE", LOCK, **{"Lease-Id": grant["lease_id"]})


def read(database):
    return database.execute("SELECT balance FROM account").fetchone()[0]


def write(database, balance, token):
    """True if the table took it: it takes no token lower than one that it has seen."""
    with database:
        statement = "UPDATE account SET balance = ?, fence = ? WHERE fence <= ?"
        return database.execute(statement, (balance, token, token)).rowcount == 1


def deposit_ten_times(clerk):
    database = sqlite3.connect(PATH.name, timeout=30)
    for _ in range(10):
        grant = acquire(clerk)
        assert write(database, read(database) + 1, grant["fencing_token"])
        release(grant)


with sqlite3.connect(PATH.name) as database:
    database.execute("CREATE TABLE account (balance INTEGER, fence INTEGER)")
    database.execute("INSERT INTO account VALUES (0, 0)")
clerks = [threading.Thread(target=deposit_ten_times, args=(f"clerk-{clerk}",)) for clerk in range(4)]
for thread in clerks:
    thread.start()
for thread in clerks:
    thread.join()
assert read(database) == 40, read(database)

slow = acquire("slow-clerk")
calculated = read(database) + 1000
ask("DELETE", f"{LOCK}?force=true&reason=slow-clerk+does+not+answer")
quick = acquire("quick-clerk")
assert write(database, read(database) + 100, quick["fencing_token"])
release(quick)
assert not write(database, calculated, slow["fencing_token"]), "a write that was late was taken"
print(f"balance {read(database)}, the late write was refused")
