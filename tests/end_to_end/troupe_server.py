"""Starts `troupe serve` on a free port for a test, and reads its metrics. Knows no test."""
import os
import pathlib
import re
import signal
import subprocess
import sys
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("TROUPE_BINARY", str(ROOT / "build/release/troupe"))
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
MODEL = CACHE / "troupe/models/smollm2-135m-instruct.gguf"


def require_model():
    """Exit status 77 is ctest's skip."""
    if not MODEL.exists():
        print(f"skipped: no default model at {MODEL}; run `troupe pull`")
        sys.exit(77)


class Server:
    def __init__(self, *flags):
        self.process = subprocess.Popen([BINARY, "serve", "--port", "0", *flags], stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        self.url = None
        for line in self.process.stdout:
            found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = int(found.group(1))
                self.url = f"http://127.0.0.1:{self.port}"
                break
        if self.url is None:
            raise RuntimeError(f"the server ended with {self.process.wait()} before it listened")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout=35)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.process.stdout.close()
        if status != 0:
            raise RuntimeError(f"the server ended with status {status}")

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return answer.read().decode()

    def metric(self, name):
        """The sum over all label sets of one metric."""
        values = [float(line.rsplit(" ", 1)[1]) for line in self.get("/metrics").splitlines()
                  if re.match(rf"{re.escape(name)}(\{{|\s)", line)]
        if not values:
            raise KeyError(name)
        return sum(values)
