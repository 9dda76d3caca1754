#!/usr/bin/env python3
"""Lays out all C++ and CUDA as .clang-format says; with --check only tells what is laid out otherwise, and fails.

The formatter is that of .venv (scripts/requirements.txt pins it), since each version lays code out in its own way.
Exit code 77: it is not there; ./check installs it.
"""
import pathlib
import subprocess
import sys

from check_arrows import sources

ROOT = pathlib.Path(__file__).resolve().parents[1]
FORMATTER = ROOT / ".venv/bin/clang-format"


def main(arguments):
    if not FORMATTER.exists():
        print(f"skipped: {FORMATTER} is not there (./check installs it)")
        return 77
    files = [ROOT / path for path in sources(ROOT)] + [ROOT / "main.cpp"]
    how = ["--dry-run", "--Werror", "--ferror-limit=1"] if "--check" in arguments else ["-i"]
    done = subprocess.run([FORMATTER, *how, *files], cwd=ROOT, stdout=subprocess.DEVNULL)
    if done.returncode != 0:
        print("\nscripts/format.py lays them out.")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
