"""Clients that vanish: after 1,000 of them no generation and no KV block is left behind, and a bystander's text is whole."""
import json
import random
import socket
import struct
import threading
import time
import unittest
import urllib.request

from troupe_server import Server, require_model

CYCLES = 1000


def body(n, **more):
    return json.dumps({"messages": [{"role": "user", "content": f"Tell a long story, number {n}."}],
                       "max_tokens": 400, "ignore_eos": True, "temperature": 0, **more}).encode()


def abort_once(port, n, chance):
    """One request, dropped at a random point: within the head, the body, the queue, prefill or the stream; FIN or RST."""
    payload = body(n, stream=n % 3 != 0)
    head = (f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(payload)}\r\n\r\n").encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
        whole = head + payload
        link.sendall(whole[:chance.randrange(1, len(whole))] if n % 5 == 0 else whole)
        if n % 2 == 0:
            link.settimeout(chance.choice([0.001, 0.01, 0.05]))
            try:
                link.recv(chance.randrange(1, 4000))
            except TimeoutError:
                pass
        if n % 4 == 0:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Aborts(unittest.TestCase):
    def settled(self, server, seconds=30):
        """Waits for the server's own figures to say that nothing is left."""
        names = ("troupe_running_sequences", "troupe_queue_length", "troupe_kv_blocks_used", "troupe_generations_live")
        until = time.monotonic() + seconds
        while True:
            left = {name: server.metric(name) for name in names}
            if not any(left.values()) or time.monotonic() > until:
                return left
            time.sleep(0.05)

    def test_a_thousand_aborts_leave_nothing_behind(self):
        with Server() as server:
            ask = lambda: json.load(urllib.request.urlopen(urllib.request.Request(
                server.url + "/v1/chat/completions", body(-1, max_tokens=64), {"Content-Type": "application/json"}), timeout=120))
            alone = ask()["choices"][0]["message"]["content"]
            beside = []
            bystander = threading.Thread(target=lambda: beside.append(ask()["choices"][0]["message"]["content"]))

            def many(first):
                chance = random.Random(first)
                for n in range(first, CYCLES, 4):
                    abort_once(server.port, n, chance)

            workers = [threading.Thread(target=many, args=(first,)) for first in range(4)]
            for worker in workers:
                worker.start()
            bystander.start()
            for worker in [*workers, bystander]:
                worker.join()
            left = self.settled(server)
            self.assertFalse(any(left.values()), left)
            self.assertEqual(beside, [alone])
            self.assertEqual(ask()["choices"][0]["message"]["content"], alone)


if __name__ == "__main__":
    require_model()
    unittest.main()
