#!/usr/bin/env python3
"""A real Prometheus scrapes a real gateway: every expression of the dashboard and of the alerts must find data.

    tests/watched.py PROGRAM [SECONDS]

Three Redis servers and a gateway, PROGRAM, run on free ports with a little load for SECONDS (60). Then two of the servers
are killed, and the expressions that speak only in trouble must speak. Exit code 1 names what stayed silent.
"""
import json
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
# What must have no data while all is well, and have some once two of three nodes are gone.
ONLY_IN_TROUBLE = {"RedlockdQuorumLost", "RedlockdQuorumAtRisk", "RedlockdNodeDown", "RedlockdErrorBudgetFast", "RedlockdErrorBudgetSlow"}
# Shown to fire by tests/alerts/alerts_test.yaml, where clocks and hours cost nothing.
ONLY_IN_OTHER_TROUBLE = {
    "RedlockdNodeQuarantinedTooLong", "RedlockdClockOffset", "RedlockdSecondRounds", "RedlockdUnsafe", "RedlockdGone", "RedlockdRosterStale",
    "RedlockdIssuerStale", "RedlockdCertificatesStale", "RedlockdCertificateEnds", "RedlockdHandshakesRefused",
    "RedlockdLimitsHit", "RedlockdCallersRefused", "RedlockdAuditLost",
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url, method="GET"):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()
    except OSError:
        return None, ""


def eventually(what, attempt, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if attempt():
            return
        time.sleep(0.1)
    sys.exit(f"{what}: not within {seconds} s")


def dashboard_expressions():
    panels = json.loads((ROOT / "helm/files/dashboard.json").read_text())["panels"]
    for panel in panels:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$job", ".*").replace("$__rate_interval", "30s")
            yield f"dashboard: {panel['title']} ({target.get('legendFormat') or 'value'})", expression


def alert_expressions(prometheus):
    rules = json.loads(get(f"{prometheus}/api/v1/rules")[1])["data"]["groups"]
    for rule in rules[0]["rules"]:
        yield rule["name"], rule["query"]


def has_data(prometheus, expression):
    status, text = get(f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
    if status != 200:
        sys.exit(f"Prometheus does not understand {expression}: {text}")
    return bool(json.loads(text)["data"]["result"])


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    running = []
    with tempfile.TemporaryDirectory() as directory:

        def start(*command):
            log = open(pathlib.Path(directory) / f"{len(running)}.log", "w")
            running.append(subprocess.Popen(command, cwd=directory, stdout=log, stderr=log))
            return running[-1]

        try:
            observe(program, seconds, directory, start)
        finally:
            for process in running:
                process.send_signal(signal.SIGKILL)
                process.wait()


def observe(program, seconds, directory, start):
    ports = [free_port() for _ in range(3)]
    servers = [start("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", directory) for port in ports]
    for port in ports:
        eventually("a server starts", lambda: not socket.socket().connect_ex(("127.0.0.1", port)))
    gateway_port, metrics_port, prometheus_port = free_port(), free_port(), free_port()
    gateway = f"http://127.0.0.1:{gateway_port}"
    nodes = [f"--node=n{index + 1}=redis://127.0.0.1:{port}" for index, port in enumerate(ports)]
    start(str(program), *nodes, "--bootstrap", "--node-timeout=5s", f"--listen=127.0.0.1:{gateway_port}", f"--metrics-listen=127.0.0.1:{metrics_port}")
    eventually("the gateway is ready", lambda: get(f"{gateway}/readyz")[0] == 200)
    configuration = pathlib.Path(directory) / "prometheus.yml"
    configuration.write_text(json.dumps({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ROOT / "helm/files/alerts.yaml")],
        "scrape_configs": [{"job_name": "redlockd", "static_configs": [{"targets": [f"127.0.0.1:{metrics_port}"]}]}],
    }))
    prometheus = f"http://127.0.0.1:{prometheus_port}"
    start("prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={directory}/data", f"--web.listen-address=127.0.0.1:{prometheus_port}")
    eventually("Prometheus is ready", lambda: get(f"{prometheus}/-/ready")[0] == 200)

    def load(until):
        """A few of everything: grants, refusals, repeats, mistakes."""
        n = 0
        while time.monotonic() < until:
            n += 1
            _, granted = get(f"{gateway}/locks/watched/{n % 7}?ttl=1s", "POST")
            get(f"{gateway}/locks/watched/{n % 7}", "POST")
            lease = json.loads(granted or "{}").get("lease_id")
            if lease:
                get(f"{gateway}/locks/watched/{n % 7}?lease_id={lease}&ttl=1s", "PUT")
                get(f"{gateway}/locks/watched/{n % 7}?lease_id={lease}", "DELETE")
            get(f"{gateway}/locks/watched/{n % 7}")
            time.sleep(0.02)

    load(time.monotonic() + seconds)
    alerts = dict(alert_expressions(prometheus))
    in_trouble = ONLY_IN_TROUBLE | ONLY_IN_OTHER_TROUBLE
    silent = [name for name, expression in dashboard_expressions() if not has_data(prometheus, expression)]
    loud = [name for name, expression in alerts.items() if has_data(prometheus, expression)]
    if set(alerts) != in_trouble:
        sys.exit(f"alerts that nobody expects, or misses: {set(alerts) ^ in_trouble}")
    if silent or loud:
        sys.exit(f"while all is well: without data {silent}, alerting {loud}")
    for server in servers[:2]:
        server.kill()
    load(time.monotonic() + 10)
    still_silent = [name for name in ONLY_IN_TROUBLE if not has_data(prometheus, alerts[name])]
    if still_silent:
        sys.exit(f"while two of three nodes are gone: without data {still_silent}")
    count = len(list(dashboard_expressions()))
    print(f"watched: {count} expressions of the dashboard with data after {seconds} s, {len(alerts)} alerts silent; with two nodes killed {len(ONLY_IN_TROUBLE)} speak")


if __name__ == "__main__":
    main()
