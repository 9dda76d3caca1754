"""`troupe bench --peer` beside peers that answer, fail, hang or are not there: our rows are printed whatever they do."""
import json
import pathlib
import shutil
import subprocess
import tempfile
import unittest

from troupe_server import BINARY, MODEL, require_model

FAKE = pathlib.Path(__file__).with_name("fake_peer.py")


class Peers(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)

    def peer(self, name, mode="well", programs=("llama-bench", "llama-batched-bench")):
        folder = pathlib.Path(self.scratch.name) / name
        folder.mkdir()
        (folder / "mode").write_text(mode)
        for program in programs:
            shutil.copy(FAKE, folder / program)
        return folder

    def bench(self, *arguments):
        return subprocess.run([BINARY, "bench", "-p", "0", "-n", "4", "-r", "1", *arguments], capture_output=True,
                              text=True, timeout=120)

    def rows(self, *arguments):
        self.done = self.bench("--json", *arguments)
        return {(row["program"], row["test"], row["batch"]): row for row in map(json.loads, self.done.stdout.splitlines())}

    def test_ratios_are_of_medians_and_of_pairs(self):
        rows = self.rows("--peer", f"fake={self.peer('fake')}/llama-bench", "-b", "1,3", "--pairs", "3")
        self.assertEqual(self.done.returncode, 0, self.done.stderr)
        ours, theirs = rows["troupe", "tg4", 1], rows["fake", "tg4", 1]
        self.assertEqual((theirs["tokens_per_s"], theirs["pairs"], ours["pairs"]), (20, 3, 3))
        self.assertGreater(ours["share_of_limit"], 0)
        for key, of in (("ratio", "tokens_per_s"), ("ratio_min", "tokens_per_s_min"), ("ratio_max", "tokens_per_s_max")):
            self.assertAlmostEqual(theirs[key], ours[of] / 20, places=6)
        self.assertEqual(rows["fake", "tg4", 3]["tokens_per_s"], 50)

    def test_a_peer_is_asked_for_the_same_work_and_for_no_depth_it_may_not_know(self):
        folder = self.peer("fake")
        self.rows("--peer", f"fake={folder}/llama-bench", "--peer-args", "fake=-fa 1", "--peer-batch-args", "-fa on", "-t", "1", "-d", "0,8",
                  "-b", "1,2", "--pairs", "1")
        calls = [json.loads(line) for line in (folder / "calls").read_text().splitlines()]
        model = str(MODEL)
        self.assertEqual(calls, [
            ["llama-bench", "-o", "json", "-m", model, "-p", "0", "-n", "4", "-t", "1", "-r", "1", "-fa", "1"],
            ["llama-batched-bench", "-m", model, "-npp", "1", "-ntg", "4", "-npl", "2", "-t", "1", "-c", "512", "-fa", "on"],
            ["llama-bench", "-o", "json", "-m", model, "-p", "0", "-n", "4", "-t", "1", "-r", "1", "-d", "8", "-fa", "1"],
            ["llama-batched-bench", "-m", model, "-npp", "8", "-ntg", "4", "-npl", "2", "-t", "1", "-c", "512", "-fa", "on"]])

    def test_bad_peers_are_named_and_the_rest_goes_on(self):
        bad = {"crash": "not to my taste", "nonsense": "no JSON"}
        arguments = [word for mode in bad for word in ("--peer", f"{mode}={self.peer(mode, mode)}/llama-bench")]
        rows = self.rows(*arguments, "--peer", "gone=/nowhere/llama-bench", "--peer", f"well={self.peer('well')}/llama-bench",
                         "--pairs", "2")
        self.assertEqual(self.done.returncode, 1)
        self.assertEqual(set(rows), {("troupe", "tg4", 1), ("well", "tg4", 1)}, self.done.stderr)
        messages = self.done.stderr.splitlines()
        for name, words in {**bad, "gone": "/nowhere/llama-bench"}.items():
            said = [line for line in messages if line.startswith(f"error: {name}, tg4: ")]
            self.assertEqual(len(said), 1, messages)
            self.assertIn(words, said[0])

    def test_a_peer_that_hangs_is_stopped_once(self):
        rows = self.rows("--peer", f"slow={self.peer('slow', 'hang')}/llama-bench", "--peer-seconds", "2", "-d", "0,8", "--pairs", "2")
        self.assertEqual(self.done.returncode, 1)
        self.assertEqual(set(rows), {("troupe", "tg4", 1), ("troupe", "tg4@d8", 1)})
        self.assertEqual(self.done.stderr.count("longer than 2 s"), 1, self.done.stderr)

    def test_without_a_batched_program_batches_are_ours_alone(self):
        rows = self.rows("--peer", f"fake={self.peer('fake', programs=['llama-bench'])}/llama-bench", "-b", "2,1", "--pairs", "1")
        self.assertEqual(set(rows), {("troupe", "tg4", 1), ("fake", "tg4", 1), ("troupe", "tg4", 2)})
        self.assertIn("llama-batched-bench", self.done.stderr)

    def test_the_table_shows_every_program(self):
        done = self.bench("--peer", f"fake={self.peer('fake')}/llama-bench", "--pairs", "2")
        head, ours, theirs = done.stdout.splitlines()
        self.assertRegex(ours, r"^tg4 +1 +\d+ +troupe +[\d.]+ +[\d.]+ - +[\d.]+ +[\d.]+$")
        self.assertRegex(theirs, r"^tg4 +1 +\d+ +fake +20\.0 +20\.0 - +20\.0 +[\d.]+ \([\d.]+ - [\d.]+\)$")

    def test_names_must_tell_peers_apart(self):
        folder = self.peer("fake")
        twice = self.bench("--peer", f"{folder}/llama-bench", "--peer", f"{folder}/llama-bench")
        self.assertEqual(twice.returncode, 1)
        self.assertIn("NAME=PATH", twice.stderr)
        unknown = self.bench("--peer", f"a={folder}/llama-bench", "--peer-args", "b=-fa 1")
        self.assertEqual(unknown.returncode, 1)
        self.assertIn('"b"', unknown.stderr)


if __name__ == "__main__":
    require_model()
    unittest.main()
