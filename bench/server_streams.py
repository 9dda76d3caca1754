#!/usr/bin/env python3
"""Tokens a second of all SSE streams of one server together, beside the bare steps of `troupe bench` at that batch.

server_streams.py [--streams 16] [--tokens 128] [--pairs 5] [--troupe build/release/troupe] [-m MODEL]     prints a JSON object a line
The clock runs while all streams decode: from the last first token to the first end. The clients share the machine.
"""
import argparse
import json
import re
import selectors
import socket
import statistics
import subprocess
import time

PROMPT = "Write a long story about a lighthouse, the people who kept it, and the ships that it guided home."
DEPTH = 48  # about what the prompt and its template take


class Stream:
    """One request on one socket; reads what comes and notes when the first token and the end were there."""

    def __init__(self, port, tokens, model):
        body = json.dumps({"messages": [{"role": "user", "content": PROMPT}], "max_tokens": tokens, "ignore_eos": True, "temperature": 0,
                           "stream": True, "model": model})
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall((f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
                             f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}").encode())
        self.first = self.end = None
        self.tail = b""

    def read(self):
        data = self.socket.recv(1 << 16)
        now = time.perf_counter()
        if not data and self.end is None:
            raise SystemExit(f"a stream ended early: {self.tail.decode(errors='replace')[-300:]}")
        self.tail = (self.tail + data)[-400:]
        if self.first is None and re.search(rb'"content":"[^"]', self.tail):
            self.first = now
        if b"[DONE]" in self.tail:
            self.end = now


def served(port, streams, tokens, model):
    all_streams = [Stream(port, tokens, model) for _ in range(streams)]
    waiting = selectors.DefaultSelector()
    for stream in all_streams:
        waiting.register(stream.socket, selectors.EVENT_READ, stream)
    while waiting.get_map():
        ready = waiting.select(60)
        if not ready:
            raise SystemExit("the server has sent nothing for a minute")
        for key, _ in ready:
            key.data.read()
            if key.data.end is not None:
                waiting.unregister(key.fileobj)
                key.fileobj.close()
    window = min(stream.end for stream in all_streams) - max(stream.first for stream in all_streams)
    return streams * (tokens - 1) / window


def benched(troupe, streams, tokens, model):
    done = subprocess.run([troupe, "bench", "-m", model, "-p", "0", "-n", str(tokens), "-d", str(DEPTH), "-b", str(streams), "-r", "1",
                           "--json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["tokens_per_s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="smollm2-135m-instruct")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--troupe", default="build/release/troupe")
    given = parser.parse_args()
    work = (given.streams, given.tokens, given.model)
    server = subprocess.Popen([given.troupe, "serve", "--port", "0", "-m", given.model], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True)
    try:
        port = next((int(found.group(1)) for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:(\d+)", line))), None)
        if port is None:
            raise SystemExit("the server did not start")
        name = given.model.rsplit("/", 1)[-1].removesuffix(".gguf")
        served(port, given.streams, given.tokens, name)
        pairs = [(served(port, given.streams, given.tokens, name), benched(given.troupe, *work)) for _ in range(given.pairs)]
    finally:
        server.terminate()
        server.wait()
    ratios = [ours / bare for ours, bare in pairs]
    serving, bare = ([pair[i] for pair in pairs] for i in (0, 1))
    print(json.dumps({"test": f"{given.streams} streams", "model": name, "program": "troupe serve", "pairs": given.pairs,
                      "tokens_per_s": statistics.median(serving), "tokens_per_s_min": min(serving), "tokens_per_s_max": max(serving),
                      "bench_tokens_per_s": statistics.median(bare), "ratio": statistics.median(serving) / statistics.median(bare),
                      "ratio_min": min(ratios), "ratio_max": max(ratios)}))


if __name__ == "__main__":
    main()
