#!/usr/bin/env python3
"""Breaks the rules of the protocol one at a time and tells which tests notice.

    tests/mutants/run.py [--seeds N] [--first N] [--last N] [WORDS]

For every mutant, or those from the first to the last whose names hold WORDS, a copy of the sources is altered in one
place and built, and the levels below run on it. A mutant that no level notices must say why it does no harm; otherwise
the exit code is 1.
"""
import argparse
import os
import pathlib
import shutil
import signal
import subprocess
import sys

from mutants import MUTANTS

ROOT = pathlib.Path(__file__).resolve().parents[2]
COPY = ROOT / "target" / "mutants" / "sources"
LEVELS = {
    "unit": ["--lib", "--", "lease::", "node::state", "node::clock"],
    "contract": ["--test", "it", "--", "node_contract::"],
    "conformance": ["--test", "it", "--", "lua_conformance::"],
    "engine": ["--test", "it", "--", "engine::"],
    "simulation": ["--test", "it", "--", "simulation::seeds"],
}
# A mutant may make the engine wait for ever, which counts as noticed.
LONGEST_S = 1200


def cargo(arguments, seeds):
    """Exit code and output; None if it hangs."""
    environment = {**os.environ, "CARGO_TARGET_DIR": str(COPY.parent / "target"), "TEST_SEEDS": str(seeds), "TEST_SEQUENCES": "300", "RUST_BACKTRACE": "0"}
    # Ours is built once per mutant and run briefly, so optimising it costs more than it saves.
    command = ["cargo", "test", "-q", "--locked", "--config", "profile.dev.package.redlockd.opt-level=0", *arguments]
    # A group of its own, so that a test that hangs ends with cargo.
    process = subprocess.Popen(command, cwd=COPY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try:
        output, _ = process.communicate(timeout=LONGEST_S)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None, "it hangs"


def copy_sources():
    """Anew, and with the time of now, so that cargo builds nothing of an earlier run."""
    shutil.rmtree(COPY, ignore_errors=True)
    COPY.mkdir(parents=True)
    for name in ["src", "tests", "openapi", "examples"]:
        shutil.copytree(ROOT / name, COPY / name, copy_function=shutil.copyfile)
    for name in ["Cargo.toml", "Cargo.lock", "README.md"]:
        shutil.copyfile(ROOT / name, COPY / name)


def build(what, seeds):
    code, output = cargo(["--no-run"], seeds)
    if code != 0:
        sys.exit(f"{what} does not compile:\n{output[-2000:]}")


def notices(seeds):
    """The levels that fail on what is in the copy."""
    return [level for level, arguments in LEVELS.items() if cargo(arguments, seeds)[0] != 0]


def judge(mutant, seeds):
    """Which levels notice it."""
    path = COPY / mutant.file
    source = (ROOT / mutant.file).read_text()
    if source.count(mutant.old) != 1:
        sys.exit(f"{mutant.name}: {mutant.file} holds the text {source.count(mutant.old)} times, not once")
    path.write_text(source.replace(mutant.old, mutant.new))
    try:
        build(mutant.name, seeds)
        return notices(seeds)
    finally:
        path.write_text(source)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--last", type=int, default=len(MUTANTS))
    parser.add_argument("words", nargs="?", default="")
    options = parser.parse_args()
    copy_sources()
    build("the unaltered source", options.seeds)
    if failing := notices(options.seeds):
        sys.exit(f"{', '.join(failing)} fail on the unaltered sources, so they can notice nothing")
    chosen = [mutant for mutant in MUTANTS[options.first - 1 : options.last] if options.words in mutant.name]
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
