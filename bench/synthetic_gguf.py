#!/usr/bin/env python3
"""Writes a GGUF model of a known shape with seeded random weights of one type: for timing, since its text is noise.

synthetic_gguf.py SHAPE TYPE OUT.gguf     (needs numpy and gguf: .venv has them)
It has no vocabulary, as llama-bench and `troupe bench` allow. Weights lie about zero with a deviation of 0.02, so that no
activation overflows and no program finds a shortcut.
"""
import argparse

import gguf
import numpy
from gguf import GGMLQuantizationType as Type

SHAPES = {
    #             layers width ff    heads kv  head vocabulary
    "tiny":      (2,     256,  512,  4,    2,  64,  1000),
    "qwen-0.6b": (28,    1024, 3072, 16,   8,  128, 151936),
    "llama-1b":  (16,    2048, 8192, 32,   8,  64,  128256),
    "llama-8b":  (32,    4096, 14336, 32,  8,  128, 128256),
}
CONTEXT = 16384
DEVIATION = 0.02

# Where a block keeps its scale and, in types that have one, its offset (both f16), and the offset in scales that puts the
# middle of the range at zero. All other bytes of a block may be anything.
BLOCKS = {
    Type.Q4_0: (0, None, 0), Type.Q4_1: (0, 2, -7.5), Type.Q5_0: (0, None, 0), Type.Q5_1: (0, 2, -15.5), Type.Q8_0: (0, None, 0),
    Type.Q2_K: (80, 82, 1.5), Type.Q3_K: (108, None, 0), Type.Q4_K: (0, 2, 7.5), Type.Q5_K: (0, 2, 15.5), Type.Q6_K: (208, None, 0),
    Type.IQ4_NL: (0, None, 0), Type.IQ4_XS: (0, None, 0),
}
TYPES = {type.name.lower(): type for type in (*BLOCKS, Type.MXFP4, Type.BF16, Type.F16, Type.F32)}


def with_scale(blocks, type, scale):
    at, offset_at, offset = BLOCKS[type]
    blocks[:, at:at + 2] = numpy.frombuffer(numpy.float16(scale).tobytes(), numpy.uint8)
    if offset_at is not None:
        blocks[:, offset_at:offset_at + 2] = numpy.frombuffer(numpy.float16(offset * scale).tobytes(), numpy.uint8)
    return blocks


class Weights:
    """Random rows of one type."""

    def __init__(self, type, seed=0):
        self.type = type
        self.random = numpy.random.default_rng(seed)
        self.block, self.bytes = gguf.GGML_QUANT_SIZES[type]
        if type in BLOCKS:  # the deviation at a scale of 1/64, measured, tells the scale that is wanted
            sample = gguf.quants.dequantize(with_scale(self.noise(4096), type, 1 / 64), type)
            self.scale = DEVIATION / sample.std() / 64

    def noise(self, blocks):
        return self.random.integers(0, 256, (blocks, self.bytes), numpy.uint8)

    def rows(self, rows, columns):
        """[rows, bytes of a row] as the file has them."""
        if columns % self.block:
            raise SystemExit(f"{self.type.name} needs rows of a multiple of {self.block}, not of {columns}")
        count = rows * columns
        if self.type in BLOCKS:
            data = with_scale(self.noise(count // self.block), self.type, self.scale)
        elif self.type == Type.MXFP4:
            data = self.noise(count // self.block)
            data[:, 0] = 127 - 8  # the exponent of the block; 127 is one
        elif self.type == Type.BF16:
            # Sign and fraction at random, exponents of 1/128 to 1/32.
            bits = self.random.integers(0, 1 << 16, count, numpy.uint16)
            data = (bits & 0x807F) | ((120 + (bits >> 8 & 1)) << 7)
        else:
            data = (self.random.random(count, numpy.float32) - numpy.float32(0.5)) * numpy.float32(DEVIATION * 12 ** 0.5)
            data = data.astype(numpy.float16) if self.type == Type.F16 else data
        return data.view(numpy.uint8).reshape(rows, -1)


def write(shape, type, path):
    layers, width, feed_forward, heads, kv_heads, head, vocabulary = SHAPES[shape]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(f"{shape} noise {type.name}")
    writer.add_block_count(layers)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocabulary)
    writer.add_tokenizer_model("none")

    matrices = [("token_embd", vocabulary, width)]
    for i in range(layers):
        matrices += [(f"blk.{i}.attn_q", heads * head, width), (f"blk.{i}.attn_k", kv_heads * head, width),
                     (f"blk.{i}.attn_v", kv_heads * head, width), (f"blk.{i}.attn_output", width, heads * head),
                     (f"blk.{i}.ffn_gate", feed_forward, width), (f"blk.{i}.ffn_up", feed_forward, width),
                     (f"blk.{i}.ffn_down", width, feed_forward)]
    norms = ["output_norm"] + [f"blk.{i}.{norm}" for i in range(layers) for norm in ("attn_norm", "ffn_norm")]
    block, size = gguf.GGML_QUANT_SIZES[type]
    for name, rows, columns in matrices:
        row = columns // block * size
        writer.add_tensor_info(f"{name}.weight", (rows, row), numpy.dtype(numpy.uint8), rows * row, raw_dtype=type)
    for name in norms:
        writer.add_tensor_info(f"{name}.weight", (width,), numpy.dtype(numpy.float32), 4 * width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    weights = Weights(type)
    for _, rows, columns in matrices:
        writer.write_tensor_data(weights.rows(rows, columns))
    for _ in norms:
        writer.write_tensor_data(numpy.ones(width, numpy.float32))
    writer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("type", choices=TYPES)
    parser.add_argument("out")
    given = parser.parse_args()
    write(given.shape, TYPES[given.type], given.out)
