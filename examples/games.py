#!/usr/bin/env python3
"""Games: two players, each on a server of its own, move on one board, and never out of turn.

A move is look, think, write, under the lock of the match. A player that thinks for longer than its lease finds that the other
has moved: the board keeps the token of the last move and refuses an older one.

Prints: 20 moves, in turn
"""
import json
import sys
import threading
import urllib.request

GATEWAY = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
LOCK = f"{GATEWAY}/locks/examples/matches/7"
MOVES = 20
board = {"moves": [], "token": 0}


def ask(method, url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers)) as answer:
        return json.load(answer)


def move(player, token):
    """True if the board took it."""
    is_its_turn = not board["moves"] or board["moves"][-1] != player
    if not is_its_turn or token < board["token"]:
        return False
    board["moves"].append(player)
    board["token"] = token
    return True


def play(player):
    is_over = False
    while not is_over:
        grant = ask("POST", f"{LOCK}?ttl=10s&wait=30s&owner={player}")
        is_over = len(board["moves"]) >= MOVES
        if not is_over:
            move(player, grant["fencing_token"])
        ask("DELETE", LOCK, **{"Lease-Id": grant["lease_id"]})


players = [threading.Thread(target=play, args=(player,)) for player in ("white", "black")]
for thread in players:
    thread.start()
for thread in players:
    thread.join()
assert all(one != other for one, other in zip(board["moves"], board["moves"][1:])), board
print(f"{len(board['moves'])} moves, in turn")
