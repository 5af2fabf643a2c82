#!/usr/bin/env python3
"""Breaks the rules of the protocol one at a time and tells which tests notice.

    tests/mutants/run.py [--seeds N] [WORDS]

For every mutant whose name holds WORDS a copy of the sources is altered in one place and built, and the levels below run
on it. A mutant that no level notices must say why it does no harm; otherwise the exit code is 1.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys

from mutants import MUTANTS

ROOT = pathlib.Path(__file__).resolve().parents[2]
COPY = ROOT / "target" / "mutants" / "sources"
LEVELS = {
    "unit": ["--lib", "--", "lease::", "node::state"],
    "contract": ["--test", "it", "--", "node_contract::"],
    "engine": ["--test", "it", "--", "engine::"],
    "simulation": ["--test", "it", "--", "simulation::seeds"],
}
# A mutant may make the engine wait for ever, which counts as noticed.
LONGEST_S = 300


def cargo(arguments, seeds):
    environment = {**os.environ, "CARGO_TARGET_DIR": str(COPY.parent / "target"), "TEST_SEEDS": str(seeds), "RUST_BACKTRACE": "0"}
    try:
        # Ours is built once per mutant and run briefly, so optimising it costs more than it saves.
        plain = ["--config", "profile.dev.package.redlockd.opt-level=0"]
        done = subprocess.run(["cargo", "test", "-q", "--locked", *plain, *arguments], cwd=COPY, env=environment, capture_output=True, text=True, timeout=LONGEST_S * 4)
        return done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        return -1, "it hangs"


def copy_sources():
    COPY.mkdir(parents=True, exist_ok=True)
    for name in ["src", "tests", "openapi", "examples"]:
        # Only what differs, so that cargo builds only that anew.
        subprocess.run(["cp", "-r", "--update", "--preserve=timestamps", str(ROOT / name), str(COPY)], check=True)
    for name in ["Cargo.toml", "Cargo.lock", "README.md", "rustfmt.toml"]:
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, COPY / name)


def judge(mutant, seeds):
    """Which levels notice it."""
    path = COPY / mutant.file
    source = (ROOT / mutant.file).read_text()
    if source.count(mutant.old) != 1:
        sys.exit(f"{mutant.name}: {mutant.file} holds the text {source.count(mutant.old)} times, not once")
    path.write_text(source.replace(mutant.old, mutant.new))
    try:
        code, output = cargo(["--no-run"], seeds)
        if code != 0:
            sys.exit(f"{mutant.name} does not compile:\n{output[-2000:]}")
        return [level for level, arguments in LEVELS.items() if cargo(arguments, seeds)[0] != 0]
    finally:
        path.write_text(source)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("words", nargs="?", default="")
    options = parser.parse_args()
    copy_sources()
    chosen = [mutant for mutant in MUTANTS if options.words in mutant.name]
    noticed, missed = 0, 0
    for mutant in chosen:
        by = judge(mutant, options.seeds)
        noticed += bool(by)
        missed += not by and not mutant.harmless
        print(f"{mutant.name}: {'noticed by ' + ', '.join(by) if by else 'harmless: ' + mutant.harmless if mutant.harmless else 'NOT NOTICED'}", flush=True)
    print(f"mutants: {len(chosen)} rules broken, {noticed} noticed, {len(chosen) - noticed - missed} harmless, {missed} not noticed")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
