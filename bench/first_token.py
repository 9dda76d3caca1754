#!/usr/bin/env python3
"""From a cold process to its first token, in units of the time to read the model's file once (all in the page cache).

first_token.py [--pairs 5] [--troupe build/release/troupe] MODEL.gguf...     prints a JSON object a line
A file with a vocabulary is run by `troupe run`, the whole engine; one without, as synthetic_gguf.py writes, by `troupe eval
greedy`, which has no actors and no text. The first run of each model is longer and leaves the copy of its repacked weights that
later starts map; TROUPE_COPIES_GIB=0 in the environment times starts that pack.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import time

import gguf


def read_once(path):
    page = bytearray(1 << 20)
    start = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        while file.readinto(page):
            pass
    return time.perf_counter() - start


def first_token(troupe, path, text, tokens=1):
    command = [troupe, "run", "--raw", "--temperature", "0", "-n", str(tokens), "-m", path, "The"] if text else \
              [troupe, "eval", "greedy", str(tokens), "-m", path]
    start = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as run:
        if not text:
            run.stdin.write(b'{"ids": [1]}\n')
        run.stdin.close()
        if not run.stdout.read(1):
            raise SystemExit(run.stderr.read().decode().strip())
        elapsed = time.perf_counter() - start
        run.stdout.read()
        return elapsed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--troupe", default="build/release/troupe")
    given = parser.parse_args()
    for model in given.models:
        text = "tokenizer.ggml.tokens" in gguf.GGUFReader(model).fields
        read_once(model), first_token(given.troupe, model, text, 128)  # the page cache, the copy
        reads, tokens = [], []
        for _ in range(given.pairs):
            reads.append(read_once(model))
            tokens.append(first_token(given.troupe, model, text))
        ratios = [token / read for token, read in zip(tokens, reads)]
        print(json.dumps({"test": "first token", "model": model.stem, "program": "troupe " + ("run" if text else "eval"), "pairs": given.pairs,
                          "ms": 1e3 * statistics.median(tokens), "read_ms": 1e3 * statistics.median(reads),
                          "ratio": statistics.median(tokens) / statistics.median(reads), "ratio_min": min(ratios),
                          "ratio_max": max(ratios)}), flush=True)


if __name__ == "__main__":
    main()
