#!/usr/bin/env python3
"""Every weight type against numpy's dequantisation (PyPI gguf), bit for bit, on random blocks with finite scales.

Usage: dequantise_differential.py PROGRAM     (PROGRAM: dequantise_rows, which says what it computes)
"""
import os
import subprocess
import sys

import gguf
import numpy as np

HALVES = {  # where a block has numbers in f16
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [], "F16": [0],
}
ROWS, BLOCKS = 83, 7


def random_rows(rng, name, rows):
    kind = gguf.GGMLQuantizationType[name]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (rows, BLOCKS, size), dtype=np.uint8)
    for at in HALVES.get(name, []):  # any finite number, subnormal and negative ones too
        blocks[..., at + 1] = np.where(blocks[..., at + 1] & 0x7C == 0x7C, blocks[..., at + 1] ^ 0x40, blocks[..., at + 1])
    if name == "MXFP4":
        blocks[..., 0] = np.where(blocks[..., 0] == 255, 0, blocks[..., 0])
    return blocks.reshape(rows, -1), block * BLOCKS


def expected(name, rows):
    kind = gguf.GGMLQuantizationType[name]
    if name == "F32":
        return rows.view(np.float32)
    if name == "F16":
        return rows.view(np.float16).astype(np.float32)
    with np.errstate(over="ignore"):  # the largest MXFP4 blocks leave f32
        return gguf.dequantize(rows, kind)


def main():
    program = sys.argv[1]
    seed = int.from_bytes(os.urandom(4), "little")
    rng = np.random.default_rng(seed)
    names = subprocess.run([program], capture_output=True, check=True, text=True).stdout.split()
    assert len(names) == 16, names
    for name in names:
        rows, cols = random_rows(rng, name, ROWS)
        wanted = np.ascontiguousarray(expected(name, rows)).view(np.uint32).reshape(ROWS, cols)
        done = subprocess.run([program, name, str(cols)], input=rows.tobytes(), capture_output=True, check=True)
        found = np.frombuffer(done.stdout, np.uint32).reshape(3, ROWS, cols)
        for who, values in zip(("tiles", "rows packed anew", "the tests' oracle"), found):
            wrong = np.argwhere(values != wanted)
            if len(wrong):
                r, c = wrong[0]
                sys.exit(f"{name}, {who}, seed {seed}: {len(wrong)} of {wanted.size} differ, the first at row {r}, column {c}: "
                         f"{values[r, c]:08x}, numpy has {wanted[r, c]:08x}")
        print(f"{name}: {wanted.size} numbers are numpy's")


main()
