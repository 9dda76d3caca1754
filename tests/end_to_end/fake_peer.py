#!/usr/bin/env python3
"""Stands for llama-bench or llama-batched-bench, by its own name, and misbehaves as its folder's `mode` file says."""
import json
import pathlib
import sys
import time

here = pathlib.Path(sys.argv[0]).absolute()
mode = (here.parent / "mode").read_text()
arguments = sys.argv[1:]
value = {flag: arguments[i + 1] for i, flag in enumerate(arguments[:-1]) if flag.startswith("-")}
with open(here.parent / "calls", "a") as calls:
    calls.write(json.dumps([here.name, *arguments]) + "\n")

if mode == "crash":
    sys.exit("the model is not to my taste")
if mode == "hang":
    time.sleep(1000)
if mode == "nonsense":
    print("[{]")
elif here.name == "llama-batched-bench":
    names = ["PP", "TG", "B", "N_KV", "T_PP s", "S_PP t/s", "T_TG s", "S_TG t/s", "T s", "S t/s"]
    row = [value["-npp"], value["-ntg"], value["-npl"], 0, 0, 0, 0, 50.0, 0, 0]
    for cells in (names, row):
        print("|" + "|".join(f" {cell} " for cell in cells) + "|", file=sys.stderr)
else:
    print(json.dumps([{"n_prompt": int(value["-p"]), "n_gen": int(value["-n"]), "samples_ts": [10.0, 30.0, 20.0]}]))
