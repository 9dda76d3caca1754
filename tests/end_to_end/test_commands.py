"""The commands as a person and a script use them: outputs against tests/reference, errors that help."""
import json
import os
import pty
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request

from troupe_server import BINARY, MODEL, ROOT, Server, require_model

REFERENCE = ROOT / "tests/reference"


def troupe(*arguments, stdin=""):
    return subprocess.run([BINARY, *arguments], input=stdin, capture_output=True, text=True, timeout=120)


def lines(name):
    return [json.loads(line) for line in (REFERENCE / name).read_text().splitlines()]


class Commands(unittest.TestCase):
    def test_tokenize_gives_the_reference_ids(self):
        rows = lines("tokens.jsonl")
        done = troupe("tokenize", "--jsonl", stdin="".join(json.dumps({"text": row["text"]}) + "\n" for row in rows))
        self.assertEqual([json.loads(line)["ids"] for line in done.stdout.splitlines()], [row["ids"] for row in rows])

    def test_render_gives_the_reference_prompts(self):
        for row in lines("chat.jsonl"):
            self.assertEqual(troupe("render", stdin=json.dumps(row["messages"])).stdout, row["prompt"])

    def test_eval_greedy_follows_the_reference_where_the_margin_is_wide(self):
        rows = lines("greedy.jsonl")[:3]
        done = troupe("eval", "greedy", "24", stdin="".join(json.dumps({"ids": row["ids"]}) + "\n" for row in rows))
        for row, line in zip(rows, done.stdout.splitlines(), strict=True):
            for ours, theirs, margin in zip(json.loads(line)["greedy"], row["greedy"], row["margin"]):
                if ours != theirs:
                    self.assertLess(margin, 1.0)
                    break  # another token: from here on the texts differ

    def test_eval_scores_text_and_tells_as_many_candidates_as_wanted(self):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as text:
            text.write("The river runs to the sea, and the sea is never full. " * 40)
            text.flush()
            windows, halves = (json.loads(troupe("eval", "perplexity", "--window", "64", *more, text.name).stdout) for more in ([], ["--halves"]))
        self.assertGreater(windows["tokens"], halves["tokens"])
        for score in (windows, halves):
            self.assertTrue(1 < score["perplexity"] < 10, score)  # it has read the sentence before
        ids = {"ids": lines("nll.jsonl")[0]["ids"][:5]}
        scored = json.loads(troupe("eval", "logits", "--best", "3", stdin=json.dumps(ids) + "\n").stdout)
        self.assertEqual([len(best) for best in scored["top"]], [3] * 5)

    def test_run_prints_the_answer_alone(self):
        done = troupe("run", "--temperature", "0", "-n", "12", "Say hello.")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(done.stdout.strip())
        self.assertIn("tokens", done.stderr)
        piped = troupe("run", "--temperature", "0", "-n", "12", stdin="Say hello.")
        self.assertEqual(piped.stdout, done.stdout)

    def test_a_model_that_is_repacked_is_in_memory_once(self):
        process = subprocess.Popen([BINARY, "run", "-n", "1", "Hi"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, env={**os.environ, "TROUPE_COPIES_GIB": "0"})
        _, status, spent = os.wait4(process.pid, 0)
        self.assertEqual(status, 0)
        self.assertLess(spent.ru_maxrss * 1024, 1.6 * MODEL.stat().st_size)

    def test_weights_that_are_not_repacked_give_the_same_text(self):
        texts = [troupe("run", "--temperature", "0", "-n", "8", "Say hello.", *extra).stdout for extra in ([], ["--no-repack"])]
        self.assertTrue(texts[0].strip())
        self.assertEqual(texts[0], texts[1])

    def test_every_kv_type_answers_and_another_is_refused_by_name(self):
        for kind in ("i16", "f16", "bf16", "q8_0", "q4_0"):
            done = troupe("run", "--temperature", "0", "-n", "8", "--kv-type", kind, "Say hello.")
            self.assertTrue(done.stdout.strip(), kind + done.stderr)
        refused = troupe("run", "--kv-type", "q5_1", "hi")
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("q8_0", refused.stderr)

    def test_the_mask_of_instruction_sets_is_obeyed_and_checked(self):
        masked = subprocess.run([BINARY, "doctor"], capture_output=True, text=True, timeout=120, env={**os.environ, "TROUPE_ISA": "scalar"})
        self.assertIn("scalar (the last is used)", masked.stdout)
        wrong = subprocess.run([BINARY, "run", "hi"], capture_output=True, text=True, timeout=120, env={**os.environ, "TROUPE_ISA": "avx9"})
        self.assertNotEqual(wrong.returncode, 0)
        self.assertIn("avx9", wrong.stderr)

    def test_chat_holds_a_conversation_on_a_terminal(self):
        main, side = pty.openpty()
        with tempfile.TemporaryDirectory() as state:
            talk = subprocess.Popen([BINARY, "chat", "--temperature", "0", "-n", "12"], stdin=side, stdout=side, stderr=side,
                                    env={**os.environ, "XDG_STATE_HOME": state, "TERM": "dumb"})
            os.close(side)
            seen = b""

            def read_until(mark):
                nonlocal seen
                while mark not in seen:
                    seen += os.read(main, 4096)

            read_until(b"> ")
            os.write(main, b"Say hello.\n")
            read_until(b"limit]")
            os.write(main, b"/exit\n")
            self.assertEqual(talk.wait(timeout=30), 0)
            os.close(main)

    def test_bench_prints_rows_with_the_limit(self):
        done = troupe("bench", "-p", "32", "-n", "8", "-b", "1,4", "-r", "1", "--json")
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([(row["test"], row["batch"]) for row in rows], [("pp32", 1), ("tg8", 1), ("tg8", 4)])
        for row in rows:
            self.assertGreater(row["tokens_per_s"], 0)
            self.assertAlmostEqual(row["share_of_limit"], row["tokens_per_s"] / row["limit_tokens_per_s"], places=6)

    def test_bench_shares_a_prefix_and_makes_one_sequence_longer(self):
        done = troupe("bench", "-p", "0", "-n", "2", "-d", "128", "-b", "4", "-r", "1", "--shared-prefix", "130", "--json")
        row = json.loads(done.stdout)
        self.assertEqual(row["test"], "tg2@d128s128")
        self.assertGreater(row["kv_bytes_held"], 2 * row["kv_bytes_a_step"])
        done = troupe("bench", "-p", "0", "-n", "2", "-d", "16", "-b", "4", "-r", "1", "--longest", "100", "--json")
        row = json.loads(done.stdout)
        self.assertEqual(row["test"], "tg2@d16l100")
        self.assertEqual(row["kv_bytes_held"] % (100 + 3 * 16 + 4 * 3 / 2), 0)
        refused = troupe("bench", "--engine", "--longest", "100")
        self.assertNotEqual(refused.returncode, 0)

    def test_bench_profile_accounts_for_a_step(self):
        done = troupe("bench", "-p", "0", "-n", "8", "-r", "2", "--profile", "--json")
        row, *ops = [json.loads(line) for line in done.stdout.splitlines()]
        *ops, step = ops
        self.assertEqual(step["op"], "step")
        self.assertEqual([op["op"] for op in ops], ["embed", "norm+qkv", "attention", "attention output", "gated mlp",
                                                    "norm", "head", "sample"])
        for key in ("calls", "us", "bytes", "int8_ops", "float_ops", "barriers"):
            self.assertAlmostEqual(sum(op[key] for op in ops) / max(step[key], 1), step[key] / max(step[key], 1), places=6)
        self.assertAlmostEqual(sum(op["share_of_step"] for op in ops), 1, places=6)

    def test_doctor_and_models_say_what_there_is(self):
        done = troupe("doctor")
        self.assertEqual(done.returncode, 0)
        self.assertIn("GB/s", done.stdout)
        self.assertIn("smollm2-135m-instruct", done.stdout)
        self.assertRegex(troupe("models").stdout, r"smollm2-135m-instruct .* cached")

    def test_doctor_measures_products_once_and_when_it_is_told_to(self):
        def said(*words, **variables):
            done = subprocess.run([BINARY, "doctor", *words], capture_output=True, text=True, timeout=120, env={**os.environ, **variables})
            self.assertEqual(done.returncode, 0, done.stderr)
            return done.stdout

        with tempfile.TemporaryDirectory() as cache:
            first = said(XDG_CACHE_HOME=cache)
            if "nothing to choose" in first:
                self.skipTest("this machine has one way only")
            if "too busy" in first:
                self.skipTest("this machine is too busy to measure")
            self.assertIn("measured now", first)
            self.assertRegex(first, r"Q4_0 +\w+/\d+ ")
            # What a busy machine did not let the first measure, a later one does.
            self.assertTrue(any("measured before" in said(XDG_CACHE_HOME=cache) for _ in range(20)))
            self.assertIn("measured now", said("--measure", XDG_CACHE_HOME=cache))
            kept = [name for name in os.listdir(os.path.join(cache, "troupe", "repacked")) if name.endswith(".costs.kept")]
            self.assertEqual(len(kept), 1)
            self.assertIn("nothing to choose", said(XDG_CACHE_HOME=cache, TROUPE_ISA="scalar"))

    def test_the_log_says_as_much_as_it_is_told_to(self):
        for place in (["--log-level", "{}", "serve"], ["serve", "--log-level", "{}"]):
            for level, expected in (("info", True), ("error", False)):
                server = subprocess.Popen([BINARY, *[word.format(level) for word in place], "--port", "0"], stdout=subprocess.PIPE,
                                          stderr=subprocess.PIPE, text=True)
                url = next(word for line in server.stdout for word in line.split() if word.startswith("http://127.0.0.1:"))
                urllib.request.urlopen(url.rstrip("/") + "/health", timeout=30).read()
                # The line is written when the answer is out, which may be after the client has it: wait for it, not for time.
                overdue = threading.Timer(60, server.kill)
                overdue.start()
                seen = expected and any("http: GET /health 200" in line for line in server.stderr)
                overdue.cancel()
                server.terminate()
                _, log = server.communicate(timeout=60)
                self.assertEqual(seen or "http: GET /health 200" in log, expected, log)
        self.assertEqual(troupe("--log-level", "loud", "models").returncode, 105)

    def test_help_has_examples_everywhere(self):
        for command in ("serve", "chat", "run", "tokenize", "render", "eval", "bench", "models", "pull", "doctor"):
            self.assertIn("Examples:", troupe(command, "--help").stdout, command)

    def test_what_cannot_be_done_is_said_at_once(self):
        for words, expected in ((["run", "", ], "There is no prompt"), (["bench", "--workload", "offline"], "--device cuda"),
                                (["serve", "--port", "99999"], "65535")):
            wrong = troupe(*words, stdin=" \n")
            self.assertNotEqual(wrong.returncode, 0)
            self.assertIn(expected, wrong.stderr)

    def test_ctrl_c_ends_a_command_that_waits_for_its_prompt(self):
        main, side = pty.openpty()
        waiting = subprocess.Popen([BINARY, "run"], stdin=side, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.assertIn("Ctrl-D", waiting.stderr.readline())
        waiting.send_signal(signal.SIGINT)
        self.assertEqual(waiting.wait(timeout=30), -signal.SIGINT)
        for end in (main, side):
            os.close(end)
        waiting.stderr.close()

    def test_a_mistyped_word_is_named_with_what_was_meant(self):
        for words, expected in ((["srve"], "no command srve: did you mean serve?"), (["serve", "--prot", "9"], "no option --prot: did you mean --port?"),
                                (["run", "two", "words"], '"words" is one word too many'), (["dance"], "no command dance\n")):
            wrong = troupe(*words)
            self.assertNotEqual(wrong.returncode, 0)
            self.assertIn(expected, wrong.stderr)
            self.assertIn("--help", wrong.stderr)
        self.assertIn("Start here:", troupe().stderr)

    def test_a_wrong_model_gets_one_helpful_sentence(self):
        missing = troupe("run", "-m", "no-such-model", "hi")
        self.assertEqual(missing.returncode, 1)
        self.assertRegex(missing.stderr, r"troupe (models|pull)")
        with tempfile.NamedTemporaryFile(suffix=".gguf") as cut:
            cut.write(MODEL.read_bytes()[:100000])
            cut.flush()
            broken = troupe("serve", "-m", cut.name)
            self.assertEqual(broken.returncode, 1)
            self.assertIn(cut.name, broken.stderr)
            self.assertRegex(broken.stderr, r"\d+")

    def test_a_taken_port_and_a_remote_address_are_refused(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            done = troupe("serve", "--port", str(taken.getsockname()[1]))
        self.assertEqual(done.returncode, 1)
        self.assertIn("--port", done.stderr)
        done = troupe("serve", "--host", "0.0.0.0", "--port", "0")
        self.assertEqual(done.returncode, 1)
        self.assertIn("--allow-remote", done.stderr)


if __name__ == "__main__":
    require_model()
    unittest.main()
