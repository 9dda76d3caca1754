#!/usr/bin/env python3
"""Gaps between the tokens that clients of `troupe serve` see: 32 answers alone, then while a long prompt is computed.

token_gaps.py -m MODEL [--troupe build/release/troupe] [--streams 32] [--prompt 16000] [--prompts 3] [FLAG...]    prints JSON objects
FLAGs go to the server. Needs Python alone. Answers are read as events of /v1/generations, whose `id:` counts tokens: where an event
brings several, its gap is of one token and the others' are none; `most_joined` says how many came at once at most. The client is one
process of the same machine; times are when it has read an event.
"""
import argparse
import http.client
import json
import random
import re
import select
import socket
import subprocess
import time

WORDS = " time year people way day man thing woman life child world school state family student group country problem hand part".split()
EVENT = re.compile(rb"\nid: (\d+)\n")


def words(seed, count):
    chance = random.Random(seed)
    return "".join(" " + chance.choice(WORDS) for _ in range(count))


class Answer:
    """One generation and the times of its tokens."""

    def __init__(self, port, prompt, tokens):
        self.asked = time.perf_counter()
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
        link.request("POST", "/v1/generations", json.dumps(body), {"Content-Type": "application/json"})
        opened = link.getresponse()
        said = json.load(opened)
        if opened.status != 201:
            raise SystemExit(f"the server answered {opened.status}: {said}")
        link.close()
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(f"GET /v1/generations/{said['id']}/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        self.rest, self.tokens, self.times, self.joined = b"", 0, [], 1

    def read(self):
        came = self.socket.recv(1 << 16)
        now = time.perf_counter()
        if not came:
            raise SystemExit("a stream ended early")
        self.rest += came
        end = 0
        for event in EVENT.finditer(self.rest):
            end, offset = event.end() - 1, int(event.group(1))
            if self.times:  # the first may hold what came before it was watched
                self.joined = max(self.joined, offset - self.tokens)
            self.times += [now] * (offset - self.tokens)
            self.tokens = offset
        self.rest = self.rest[end:]


class Clock:
    """Reads all answers until something has happened."""

    def __init__(self):
        self.poll, self.answers = select.epoll(), {}

    def add(self, answer):
        self.answers[answer.socket.fileno()] = answer
        self.poll.register(answer.socket, select.EPOLLIN)

    def drop(self, answer):
        self.poll.unregister(answer.socket)
        del self.answers[answer.socket.fileno()]

    def read_until(self, done):
        until = time.perf_counter() + 60
        while not done():
            for number, _ in self.poll.poll(0.05):
                self.answers[number].read()
            if time.perf_counter() > until:
                raise SystemExit("nothing came for a minute")


def figures(answers, begin, end):
    gaps = sorted(1e3 * (b - a) for one in answers for a, b in zip(one.times, one.times[1:]) if a >= begin and b <= end)
    share = lambda part: round(gaps[min(len(gaps) - 1, int(len(gaps) * part))], 2)
    return {"gaps": len(gaps), "p50_ms": share(0.5), "p90_ms": share(0.9), "p99_ms": share(0.99), "max_ms": round(gaps[-1], 2)}


def measure(port, given):
    clock = Clock()
    # Long enough that none ends before the last prompt.
    answers = [Answer(port, words(i, 512), 4000) for i in range(given.streams)]
    for one in answers:
        clock.add(one)
    clock.read_until(lambda: all(one.tokens > 32 for one in answers))
    for number in range(given.prompts):
        begin = time.perf_counter()
        clock.read_until(lambda: time.perf_counter() > begin + 1)
        alone = figures(answers, begin, time.perf_counter())
        prompt = Answer(port, words(1000 + number, given.prompt), 2)
        clock.add(prompt)
        clock.read_until(lambda: prompt.times)
        beside = figures(answers, prompt.asked, prompt.times[0])
        clock.drop(prompt)
        print(json.dumps({"test": f"{given.streams} answers beside a prompt of {given.prompt}", "prompt": number + 1, "alone": alone, "beside": beside,
                          "first_token_ms": round(1e3 * (prompt.times[0] - prompt.asked)),
                          "p99_of_p50_alone": round(beside["p99_ms"] / alone["p50_ms"], 2),
                          "most_joined": max(one.joined for one in answers)}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=16000, help="words, which are tokens of most vocabularies")
    parser.add_argument("--prompts", type=int, default=3)
    parser.add_argument("--troupe", default="build/release/troupe")
    given, flags = parser.parse_known_args()
    server = subprocess.Popen([given.troupe, "serve", "--port", "0", "--drain-seconds", "0", "-m", given.model, *flags], stdout=subprocess.PIPE, text=True)
    try:
        port = next((int(found.group(1)) for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:(\d+)", line))), None)
        if port is None:
            raise SystemExit("the server did not start")
        measure(port, given)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
