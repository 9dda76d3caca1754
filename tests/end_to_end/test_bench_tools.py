"""The scripts of bench/ do what bench/cpu.md is made with: models that load, rows that add up."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import gguf
import numpy

from troupe_server import BINARY, MODEL, ROOT, require_model

sys.path.insert(0, str(ROOT / "bench"))
import synthetic_gguf


def script(name, *arguments, **more):
    done = subprocess.run([sys.executable, ROOT / "bench" / name, *arguments], capture_output=True, text=True, timeout=300, **more)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return done.stdout


class Synthetic(unittest.TestCase):
    def test_weights_of_every_block_type_lie_about_zero(self):
        for name, kind in synthetic_gguf.TYPES.items():
            if kind in (gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.F32):
                continue
            with self.subTest(name):
                values = gguf.quants.dequantize(synthetic_gguf.Weights(kind).rows(64, 512), kind)
                self.assertTrue(numpy.isfinite(values).all())
                self.assertLess(abs(values.mean()), 0.003)
                self.assertTrue(0.01 < values.std() < 0.03, values.std())

    def test_a_model_of_every_type_runs(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in synthetic_gguf.TYPES:
                with self.subTest(name):
                    path = os.path.join(folder, name + ".gguf")
                    script("synthetic_gguf.py", "tiny", name, path)
                    done = subprocess.run([BINARY, "eval", "logits", "-m", path], input='{"ids": [1, 2, 3]}\n', capture_output=True,
                                          text=True, timeout=120)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    nll = json.loads(done.stdout)["nll"]
                    self.assertTrue(4 < nll < 12, nll)  # ln 1000 is 6.9: noise knows nothing, and says so


class Figures(unittest.TestCase):
    def test_first_token_is_timed_with_and_without_a_vocabulary(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "noise.gguf")
            script("synthetic_gguf.py", "tiny", "q8_0", path)
            rows = [json.loads(line) for line in script("first_token.py", "--troupe", BINARY, "--pairs", "1", MODEL, path).splitlines()]
        self.assertEqual([row["program"] for row in rows], ["troupe run", "troupe eval"])
        for row in rows:
            self.assertAlmostEqual(row["ratio"], row["ms"] / row["read_ms"], places=6)

    def test_streams_are_counted_together(self):
        row = json.loads(script("server_streams.py", "--troupe", BINARY, "--streams", "3", "--tokens", "8", "--pairs", "1"))
        self.assertGreater(row["tokens_per_s"], 0)
        self.assertAlmostEqual(row["ratio"], row["tokens_per_s"] / row["bench_tokens_per_s"], places=6)

    def test_gaps_of_tokens_are_timed_alone_and_beside_a_prompt(self):
        row = json.loads(script("token_gaps.py", "--troupe", BINARY, "-m", MODEL, "--streams", "2", "--prompt", "200", "--prompts", "1",
                                "--device", "cpu"))
        for way in ("alone", "beside"):
            self.assertGreater(row[way]["gaps"], 0)
            self.assertGreaterEqual(row[way]["max_ms"], row[way]["p50_ms"])
        self.assertGreaterEqual(row["most_joined"], 1)

    def test_shared_prompts_are_timed_with_the_cache_and_without(self):
        on, off = (json.loads(line) for line in script("shared_prompt.py", "--troupe", BINARY, "--tokens", "60", "--streams", "3",
                                                       "--answer", "4", "--pairs", "1").splitlines())
        self.assertEqual((on["prefix_cache"], off["prefix_cache"], off["cached_tokens"]), ("on", "off", 0))
        self.assertTrue(on["prompt_tokens"] - 17 < on["cached_tokens"] < on["prompt_tokens"], on)
        for row in (on, off):
            self.assertGreater(min(row["first_token_ms"], row["tokens_per_s"]), 0)

    def test_rows_become_a_table(self):
        ours = {"test": "tg64", "batch": 1, "threads": 2, "program": "troupe", "tokens_per_s": 3000, "tokens_per_s_min": 2900,
                "tokens_per_s_max": 3100, "share_of_limit": 0.7}
        peer = {**ours, "program": "peer", "tokens_per_s": 1500, "ratio": 2, "ratio_min": 1.9, "ratio_max": 2.1}
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "decode.jsonl"
            path.write_text("\n".join(map(json.dumps, [ours, peer, {**ours, "batch": 16, "tokens_per_s": 15000}])))
            lines = script("rows_to_markdown.py", path, "/nowhere/absent.jsonl").splitlines()
        self.assertEqual(lines[2:], [
            "| decode | tg64 x1, 2 threads | 3,000 (2,900-3,100) | 0.70 | peer 1,500: **2.00 (1.90-2.10)** |",
            "| decode | tg64 x16, 2 threads | 15,000 (2,900-3,100) | 0.70 | - |",
            "| decode | 16 sequences / 1 sequence | **5.00** | | |"])

    def test_an_unknown_row_is_refused_before_anything_runs(self):
        done = subprocess.run([ROOT / "bench/cpu_tables.sh", "decode-default", "no-such-row"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn("no-such-row", done.stderr)


if __name__ == "__main__":
    require_model()
    unittest.main()
