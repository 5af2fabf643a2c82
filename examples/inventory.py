#!/usr/bin/env python3
"""Inventory: twenty buyers want one of five, and five are sold.

Each looks whether something is left and takes it, under the lock of the article. A database that can refuse to go below
zero (`UPDATE stock SET n = n - 1 WHERE n > 0`) does not need the lock; it helps where a sale takes several steps, in several
systems, of which the last one has to be the one that counts.

Prints: 5 sold, 0 left
"""
import sys
import threading
import urllib.request
import json

GATEWAY = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
LOCK = f"{GATEWAY}/locks/examples/articles/4711"
stock, sold = {"left": 5}, []


def ask(method, url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers)) as answer:
        return json.load(answer)


def buy(buyer):
    grant = ask("POST", f"{LOCK}?ttl=10s&wait=30s&owner=buyer-{buyer}")
    try:
        left = stock["left"]
        if left > 0:
            sold.append(buyer)
            stock["left"] = left - 1
    finally:
        ask("DELETE", LOCK, **{"Lease-Id": grant["lease_id"]})


buyers = [threading.Thread(target=buy, args=(buyer,)) for buyer in range(20)]
for thread in buyers:
    thread.start()
for thread in buyers:
    thread.join()
print(f"{len(sold)} sold, {stock['left']} left")
