"""What signals, and readers of the log that leave, do to a running server."""
import json
import os
import signal
import subprocess
import time
import unittest
import urllib.request

from troupe_server import BINARY, Server, require_model


def ask(server, tokens):
    body = {"messages": [{"role": "user", "content": "Count."}], "max_tokens": tokens, "ignore_eos": True, "stream": True}
    return urllib.request.urlopen(urllib.request.Request(server.url + "/v1/chat/completions", json.dumps(body).encode(),
                                                         {"Content-Type": "application/json"}), timeout=60)


class Signals(unittest.TestCase):
    def started(self):
        server = Server()
        self.addCleanup(server.process.kill)
        return server

    def test_a_running_answer_ends_after_a_first_signal(self):
        for asked in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            server = self.started()
            with ask(server, 100) as answer:
                answer.readline()
                server.process.send_signal(asked)
                self.assertIn(b"[DONE]", answer.read(), asked)
            self.assertEqual(server.process.wait(timeout=30), 0, asked)
            server.process.stdout.close()

    def test_a_second_signal_ends_it_at_once_but_a_terminal_may_hang_up_twice(self):
        server = self.started()
        with ask(server, 6000) as answer:
            answer.readline()
            for again in (signal.SIGHUP, signal.SIGHUP):
                server.process.send_signal(again)
                time.sleep(0.2)  # two signals at once would be one
            self.assertTrue(answer.readline())
            self.assertIsNone(server.process.poll())
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(server.process.wait(timeout=5), 130)
        server.process.stdout.close()

    def test_under_nohup_a_hangup_means_nothing(self):
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            server = Server()  # a child inherits what is ignored
        finally:
            signal.signal(signal.SIGHUP, before)
        with server:
            server.process.send_signal(signal.SIGHUP)
            with ask(server, 20) as answer:
                self.assertIn(b"[DONE]", answer.read())
            self.assertEqual(server.get("/health"), '{"status":"ok"}')

    def test_a_log_that_nobody_reads_any_more_ends_nothing(self):
        reader, writer = os.pipe()
        process = subprocess.Popen([BINARY, "serve", "--port", "0"], stdout=subprocess.PIPE, stderr=writer, text=True)
        self.addCleanup(process.kill)
        os.close(writer)
        url = next(word for line in process.stdout for word in line.split() if word.startswith("http://127.0.0.1:")).rstrip("/")
        os.close(reader)
        for _ in range(3):
            self.assertEqual(urllib.request.urlopen(url + "/health", timeout=30).read(), b'{"status":"ok"}')
        process.terminate()
        self.assertEqual(process.wait(timeout=35), 0)
        process.stdout.close()


if __name__ == "__main__":
    require_model()
    unittest.main()
