#!/usr/bin/env python3
"""`troupe serve` on a GPU that a kernel's trap takes from it: who was answered hears why, /health says so, a new process serves on the
same port; where the device stays bad, the CPU does. One argument: trapping_server, the program with a kernel that traps on demand."""
import http.client
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

STREAMS = 4
PATIENCE = 60  # seconds for what takes two or three


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port, method, path, body=None):
    """Status and text; (0, why) where nobody listens."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        link.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        answer = link.getresponse()
        return answer.status, answer.read().decode()
    except OSError as why:
        return 0, str(why)
    finally:
        link.close()


def complete(port, tokens=16):
    return ask(port, "POST", "/v1/completions", {"prompt": "Once", "max_tokens": tokens, "temperature": 0, "ignore_eos": True})


def wait_for(what, holds):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        found = holds()
        if found:
            return found
        time.sleep(0.01)
    raise SystemExit(f"FAIL: {what} did not come within {PATIENCE} s")


def expect(holds, sentence, seen=""):
    print(f"{'ok  ' if holds else 'FAIL'}: {sentence}{'' if holds else f': {seen}'}", flush=True)
    if not holds:
        raise SystemExit(1)


class Stream(threading.Thread):
    """An answer that would go on for minutes."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.text, self.link = b"", http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        body = {"prompt": "Twice", "max_tokens": 100_000, "stream": True, "ignore_eos": True}
        self.link.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        self.start()

    def run(self):
        answer = self.link.getresponse()
        while piece := answer.read1(1 << 16):
            self.text += piece

    def error(self):
        """The error event that ended it, or what came last."""
        self.join(PATIENCE)
        last = self.text.strip().split(b"\n\n")[-1].decode().removeprefix("data: ")
        try:
            return json.loads(last).get("error") or {"message": "", "last": last}
        except json.JSONDecodeError:
            return {"message": "", "last": last}


def lose_device(port, bad, stays):
    """Breaks the device under running answers. The reason that clients were given, and when it broke."""
    streams = [Stream(port) for _ in range(STREAMS)]
    wait_for("text of every stream", lambda: all(b'"text":' in one.text for one in streams))
    began = time.monotonic()
    bad.touch()
    errors = [one.error() for one in streams]
    if not stays:
        bad.unlink()
    for one in errors:
        expect("CUDA" in one["message"], "a running answer ends with an error that names the device's", one)
    status, text = wait_for("an answer of /health", lambda: (found := ask(port, "GET", "/health"))[0] and found)
    expect(status == 503 and "CUDA" in text, "/health says 503 and why", (status, text))
    print(f"      {json.loads(text)['error']['message']}")
    status, text = complete(port)
    expect(status in (0, 500, 503), "a new request is refused meanwhile", (status, text))
    return began


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        bad, model, log = (pathlib.Path(folder) / name for name in ("bad", "tiny.gguf", "log"))
        subprocess.run([program, "write-model", model], check=True)
        port = free_port()
        with open(log, "w") as words:
            server = subprocess.Popen([program, "serve", "--device", "cuda", "--kv-gib", "2", "--drain-seconds", "0", "--port", str(port), "-m", model],
                                      stdout=words, stderr=words, env={**os.environ, "TROUPE_TEST_BAD_DEVICE": str(bad)})
        try:
            healthy = lambda: ask(port, "GET", "/health")[0] == 200 or server.poll() is not None
            wait_for("the server", healthy)
            status, text = complete(port)
            expect(status == 200, "the GPU serves", text + log.read_text())

            began = lose_device(port, bad, stays=False)
            wait_for("another process", healthy)
            status, again = complete(port)
            expect(status == 200 and json.loads(again)["choices"] == json.loads(text)["choices"],
                   f"another process answers the same on the same port, {time.monotonic() - began:.1f} s after the trap", again)
            expect("on the CPU" not in log.read_text(), "with the GPU, which works again")

            began = lose_device(port, bad, stays=True)
            wait_for("the CPU", healthy)
            status, again = complete(port)
            expect(status == 200, f"where the device stays bad the CPU answers, {time.monotonic() - began:.1f} s after the trap", again + log.read_text())
            expect("on the CPU" in log.read_text(), "and the log says so", log.read_text())
        finally:
            server.terminate()
            server.wait()
        print("\n".join(f"      {line}" for line in log.read_text().splitlines() if "engine" in line))


if __name__ == "__main__":
    main()
