"""WebSocket generations and SSE subscriptions, with clients from PyPI (`websockets`, `httpx`)."""
import asyncio
import json
import unittest

import httpx
import websockets

from troupe_server import Server, require_model

HELLO = [{"role": "user", "content": "Count from one to twenty in words."}]


def connect(server):
    return websockets.connect(f"ws://127.0.0.1:{server.port}/v1/stream", subprotocols=["troupe.v1"])


async def next_of(socket, kind, name):
    while True:
        message = json.loads(await asyncio.wait_for(socket.recv(), 30))
        if message["type"] == kind and message.get("id") == name:
            return message


def parse_sse(text):
    events = []
    for part in text.replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in part.split("\n") if ": " in line)
        if "data" in fields:
            events.append((fields.get("event"), int(fields.get("id", -1)), json.loads(fields["data"])))
    return events


class Streams(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()

    async def test_two_generations_share_a_socket_and_equal_the_plain_answers(self):
        bodies = {name: {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 24}
                  for name, text in (("a", "Say hello."), ("b", "What is two plus two?"))}
        async with connect(self.server) as socket:
            for name, body in bodies.items():
                await socket.send(json.dumps({"type": "generate", "id": name, **body}))
            texts, ended = {"a": "", "b": ""}, {}
            while len(ended) < 2:
                message = json.loads(await asyncio.wait_for(socket.recv(), 30))
                self.assertNotEqual(message["type"], "error", message)
                if message["type"] == "delta":
                    texts[message["id"]] += message["text"]
                elif message["type"] == "done":
                    ended[message["id"]] = message
        async with httpx.AsyncClient(timeout=60) as http:
            for name, body in bodies.items():
                plain = (await http.post(self.server.url + "/v1/chat/completions", json=body)).json()
                self.assertEqual(texts[name], plain["choices"][0]["message"]["content"])
                self.assertEqual(ended[name]["usage"]["completion_tokens"], plain["usage"]["completion_tokens"])
                self.assertGreaterEqual(ended[name]["timing"]["total_ms"], ended[name]["timing"]["first_token_ms"])

    async def test_cancel_ends_one_generation_and_not_the_other(self):
        async with connect(self.server) as socket:
            for name in "ab":
                await socket.send(json.dumps({"type": "generate", "id": name, "messages": HELLO, "max_tokens": 200,
                                              "temperature": 0, "ignore_eos": True}))
            await next_of(socket, "delta", "a")
            await socket.send(json.dumps({"type": "cancel", "id": "a"}))
            done = await next_of(socket, "done", "a")
            self.assertEqual(done["finish_reason"], "cancelled")
            self.assertLess(done["usage"]["completion_tokens"], 200)
            done = await next_of(socket, "done", "b")
            self.assertEqual(done["usage"]["completion_tokens"], 200)

    async def test_bad_messages_get_an_error_and_the_socket_lives(self):
        async with connect(self.server) as socket:
            for bad in ("nonsense", '{"type":"dance"}', '{"type":"generate","id":"x"}',
                        '{"type":"generate","id":"x","messages":[],"temperature":"hot"}'):
                await socket.send(bad)
                self.assertEqual(json.loads(await asyncio.wait_for(socket.recv(), 10))["type"], "error", bad)
            await socket.send(json.dumps({"type": "generate", "id": "ok", "messages": HELLO, "max_tokens": 2}))
            await next_of(socket, "done", "ok")

    async def test_a_dropped_watcher_replays_from_its_offset(self):
        async with httpx.AsyncClient(timeout=60, base_url=self.server.url) as http:
            made = await http.post("/v1/generations", json={"messages": HELLO, "temperature": 0, "max_tokens": 40})
            self.assertEqual(made.status_code, 201)
            where = f"/v1/generations/{made.json()['id']}/events"
            whole = parse_sse((await http.get(where)).text)
            text = "".join(data["text"] for kind, _, data in whole if kind == "delta")
            self.assertEqual(whole[-1][0], "done")
            self.assertTrue(text)
            for kind, offset, _ in [event for event in whole if event[0] == "delta"][:-1]:
                again = parse_sse((await http.get(where, headers={"Last-Event-ID": str(offset)})).text)
                seen = "".join(d["text"] for k, o, d in whole if k == "delta" and o <= offset)
                rest = "".join(d["text"] for k, _, d in again if k == "delta")
                self.assertEqual(seen + rest, text)

    async def test_what_a_late_watcher_is_sent_comes_in_pieces(self):
        async with httpx.AsyncClient(timeout=60, base_url=self.server.url) as http:
            made = await http.post("/v1/generations", json={"messages": HELLO, "max_tokens": 100, "ignore_eos": True, "temperature": 0,
                                                            "logprobs": True, "top_logprobs": 20})
            where = f"/v1/generations/{made.json()['id']}/events"
            first, late = [(await http.get(where)).text for _ in range(2)]
            self.assertGreater(len(late), 100_000)
            self.assertLess(max(len(part) for part in late.split("\n\n")), 10_000)
            texts = ["".join(d["text"] for k, _, d in parse_sse(text) if k == "delta") for text in (first, late)]
            self.assertEqual(texts[0], texts[1])

    async def test_two_watchers_see_the_same_and_delete_ends_both(self):
        async with httpx.AsyncClient(timeout=60, base_url=self.server.url) as http:
            made = await http.post("/v1/generations", json={"messages": HELLO, "max_tokens": 2000, "ignore_eos": True, "temperature": 0})
            name = made.json()["id"]
            watching = [asyncio.create_task(http.get(f"/v1/generations/{name}/events")) for _ in range(2)]
            async with http.stream("GET", f"/v1/generations/{name}/events") as third:
                async for line in third.aiter_lines():
                    if line.startswith("event: delta"):
                        break
            self.assertEqual((await http.delete(f"/v1/generations/{name}")).status_code, 204)
            seen = [parse_sse((await task).text) for task in watching]
            texts = ["".join(d["text"] for k, _, d in events if k == "delta") for events in seen]
            self.assertEqual(texts[0], texts[1])
            self.assertEqual([events[-1][2]["finish_reason"] for events in seen], ["cancelled", "cancelled"])
            self.assertEqual((await http.get("/v1/generations/gen-0000000000000001/events")).status_code, 404)


if __name__ == "__main__":
    require_model()
    unittest.main()
