#!/usr/bin/env python3
"""What the prefix cache saves: requests that begin with the same prompt, with it and without.

shared_prompt.py [--tokens 1000] [--streams 16] [--answer 64] [--pairs 5] [--troupe build/release/troupe] [-m MODEL]
prints a JSON object a line: milliseconds to the first token of a prompt that another request has computed, and tokens a
second, prompts and answers, of all streams together from the first request to the last token.
"""
import argparse
import concurrent.futures
import json
import re
import statistics
import subprocess
import time
import urllib.request


class Server:
    def __init__(self, troupe, model, *flags):
        self.process = subprocess.Popen([troupe, "serve", "--port", "0", "-m", model, *flags], stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        found = (re.search(r"http://127\.0\.0\.1:\d+", line) for line in self.process.stdout)
        self.url = next((one.group(0) for one in found if one), None)
        if self.url is None:
            raise SystemExit("the server did not start")

    def ask(self, prompt, answer):
        """Seconds to the first token, and prompt tokens: all, and found in the cache."""
        body = {"prompt": prompt, "max_tokens": answer, "temperature": 0, "ignore_eos": True, "stream": True,
                "stream_options": {"include_usage": True}}
        request = urllib.request.Request(self.url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
        began, first, usage = time.perf_counter(), None, {}
        with urllib.request.urlopen(request, timeout=600) as lines:
            for line in lines:
                if first is None and b'"text":"' in line:
                    first = time.perf_counter() - began
                if line.startswith(b"data: {"):
                    usage = json.loads(line[6:]).get("usage") or usage
        return first, usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]

    def end(self):
        self.process.terminate()
        self.process.wait()


def prompt(tokens, run):
    """About so many tokens that no other run shares."""
    return f"{run}. " + " ".join(["and", "the", "river", "ran"][(i * i + run) % 4] for i in range(tokens))


def measured(server, run, given):
    server.ask(prompt(given.tokens, run), 2)  # its prompt's rows are others' to read before its second token leaves
    first, tokens, cached = server.ask(prompt(given.tokens, run) + " on.", 1)
    together = [prompt(given.tokens, run + 500) + f" It was number {n}." for n in range(given.streams)]
    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(given.streams) as pool:
        answers = list(pool.map(lambda one: server.ask(one, given.answer), together))
    took = time.perf_counter() - began
    return first * 1000, (sum(count for _, count, _ in answers) + given.streams * given.answer) / took, tokens, cached


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="smollm2-135m-instruct")
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--answer", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--troupe", default="build/release/troupe")
    given = parser.parse_args()
    servers = {"on": Server(given.troupe, given.model), "off": Server(given.troupe, given.model, "--no-prefix-cache")}
    rows = {name: [] for name in servers}
    try:
        for run in range(given.pairs):
            for name, server in servers.items():
                rows[name].append(measured(server, run, given))
    finally:
        for server in servers.values():
            server.end()
    for name, all_rows in rows.items():
        first, rate, tokens, cached = zip(*all_rows)
        print(json.dumps({"prefix_cache": name, "prompt_tokens": tokens[0], "cached_tokens": cached[0], "streams": given.streams,
                          "first_token_ms": round(statistics.median(first), 2), "first_token_ms_max": round(max(first), 2),
                          "tokens_per_s": round(statistics.median(rate)), "tokens_per_s_min": round(min(rate)), "pairs": given.pairs}))


if __name__ == "__main__":
    main()
