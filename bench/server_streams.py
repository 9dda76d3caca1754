#!/usr/bin/env python3
"""Tokens a second of all SSE streams of one server together, beside the bare steps of `troupe bench` at that batch.

server_streams.py [--streams 16] [--tokens 128] [--pairs 5] [--troupe build/release/troupe] [-m MODEL]     prints a JSON object a line
The clock runs while all streams decode: from the last first token to the first end. The client (stream_client.cpp) shares the
machine.
"""
import argparse
import json
import pathlib
import re
import statistics
import subprocess

DEPTH = 48  # about what the client's prompt and its template take


def served(client, port, streams, tokens, model):
    """Tokens a second, and events for each token: less than 1 where tokens were sent together."""
    done = subprocess.run([client, str(port), str(streams), str(tokens), model], capture_output=True, text=True, check=True)
    rate, events = done.stdout.split()
    return float(rate), int(events) / (streams * tokens)


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
    parser.add_argument("--client", help="default: what was built beside the program")
    given = parser.parse_args()
    client = given.client or pathlib.Path(given.troupe).parent / "bench" / "stream_client"
    work = (given.streams, given.tokens, given.model)
    server = subprocess.Popen([given.troupe, "serve", "--port", "0", "-m", given.model], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True)
    try:
        port = next((int(found.group(1)) for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:(\d+)", line))), None)
        if port is None:
            raise SystemExit("the server did not start")
        name = given.model.rsplit("/", 1)[-1].removesuffix(".gguf")
        served(client, port, given.streams, given.tokens, name)
        pairs = [(*served(client, port, given.streams, given.tokens, name), benched(given.troupe, *work)) for _ in range(given.pairs)]
    finally:
        server.terminate()
        server.wait()
    ratios = [ours / bare for ours, _, bare in pairs]
    serving, events, bare = ([pair[i] for pair in pairs] for i in range(3))
    print(json.dumps({"test": f"{given.streams} streams", "model": name, "program": "troupe serve", "pairs": given.pairs,
                      "tokens_per_s": statistics.median(serving), "tokens_per_s_min": min(serving), "tokens_per_s_max": max(serving),
                      "bench_tokens_per_s": statistics.median(bare), "ratio": statistics.median(serving) / statistics.median(bare),
                      "ratio_min": min(ratios), "ratio_max": max(ratios), "events_per_token": min(events)}))


if __name__ == "__main__":
    main()
