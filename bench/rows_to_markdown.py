#!/usr/bin/env python3
"""Prints rows of `troupe bench --peer --json`, first_token.py and server_streams.py as Markdown tables.

rows_to_markdown.py ROW.jsonl...     a file that is not there is left out
"""
import json
import pathlib
import sys


def figure(row, key="tokens_per_s"):
    return f"{row[key]:,.0f} ({row[key + '_min']:,.0f}-{row[key + '_max']:,.0f})"


def ratio(row):
    return f"{row['ratio']:.2f} ({row['ratio_min']:.2f}-{row['ratio_max']:.2f})"


def compared(path, rows):
    """One line a workload: our row, then each peer's ratio."""
    workloads = {}
    for row in rows:
        workloads.setdefault((row["test"], row["batch"], row["threads"]), []).append(row)
    for (test, batch, threads), of in workloads.items():
        ours = next(row for row in of if row["program"] == "troupe")
        peers = "; ".join(f"{row['program']} {row['tokens_per_s']:,.0f}: **{ratio(row)}**" for row in of if row is not ours)
        yield f"| {path.stem} | {test} x{batch}, {threads} threads | {figure(ours)} | {ours['share_of_limit']:.2f} | {peers or '-'} |"
    alone = {batch: of[0]["tokens_per_s"] for (test, batch, _), of in workloads.items()}
    if 1 in alone and 16 in alone:
        yield f"| {path.stem} | 16 sequences / 1 sequence | **{alone[16] / alone[1]:.2f}** | | |"


def single(path, row):
    if "read_ms" in row:
        return f"| {path.stem} | {row['model']}, {row['program']} | {row['ms']:.0f} ms; file read in {row['read_ms']:.0f} ms | | **{ratio(row)}** |"
    return f"| {path.stem} | {row['model']}, {row['test']} | {figure(row)} | | bench {row['bench_tokens_per_s']:,.0f}: **{ratio(row)}** |"


def main():
    print("| row | workload | troupe, tokens/s (min-max) | share of limit | peer, tokens/s: troupe to it (min-max of pairs) |\n|---|---|---|---|---|")
    for path in map(pathlib.Path, sys.argv[1:]):
        if not path.exists():
            continue
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for line in compared(path, rows) if rows and "batch" in rows[0] else (single(path, row) for row in rows):
            print(line)


if __name__ == "__main__":
    main()
