"""A server without work takes no processor time: before its first request, and after one with its connection still open."""
import http.client
import json
import os
import pathlib
import time
import unittest

from troupe_server import Server, require_model

WINDOW = 0.5           # seconds, in which nothing is asked
WINDOWS = 20           # one of them must be quiet: the first ones may see a copy of the weights being written
MOST_BUSY = 0.1        # of a processor; a thread that spins takes all of one
MOST_SWITCHES = 50     # of all threads; a poll every 5 ms has twice as many


def family_of(pid):
    """The process and those that it has started."""
    everyone = [pid]
    for one in everyone:
        for task in pathlib.Path(f"/proc/{one}/task").iterdir():
            everyone += [int(child) for child in (task / "children").read_text().split()]
    return everyone


def spent_by(pid):
    """Seconds of processor time and context switches so far, of all threads."""
    ticks = switches = 0
    for one in family_of(pid):
        fields = pathlib.Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
        for task in pathlib.Path(f"/proc/{one}/task").iterdir():
            try:
                status = (task / "status").read_text()
            except (FileNotFoundError, ProcessLookupError):  # a thread that has just ended
                continue
            switches += sum(int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line)
    return ticks / os.sysconf("SC_CLK_TCK"), switches


def quietest_window(pid):
    seen = []
    for _ in range(WINDOWS):
        seconds, switches = spent_by(pid)
        time.sleep(WINDOW)
        after_seconds, after_switches = spent_by(pid)
        seen.append((after_seconds - seconds, after_switches - switches))
        if seen[-1][0] <= MOST_BUSY * WINDOW and seen[-1][1] <= MOST_SWITCHES:
            break
    return seen


class Idle(unittest.TestCase):
    def check_idle(self, server, when):
        seen = quietest_window(server.process.pid)
        seconds, switches = seen[-1]
        self.assertLessEqual(seconds, MOST_BUSY * WINDOW, f"{when}: {seen}")
        self.assertLessEqual(switches, MOST_SWITCHES, f"{when}: {seen}")

    def test_an_idle_server_uses_no_processor(self):
        with Server() as server:
            self.check_idle(server, "before the first request")
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            body = json.dumps({"prompt": "The", "max_tokens": 8})
            connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
            self.assertEqual(json.loads(connection.getresponse().read())["usage"]["completion_tokens"], 8)
            self.check_idle(server, "after a request, its connection open")
            connection.close()


if __name__ == "__main__":
    require_model()
    unittest.main()
