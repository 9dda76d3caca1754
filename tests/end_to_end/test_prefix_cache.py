"""The prefix cache from outside: the same text with it and without, and figures that say what was found."""
import concurrent.futures
import json
import unittest
import urllib.request

from troupe_server import Server, require_model

RULES = " ".join(f"Rule {n}: answer politely, and never mention the number {n * 7}." for n in range(40))


def ask(server, question, **more):
    body = {"messages": [{"role": "system", "content": RULES}, {"role": "user", "content": question}],
            "max_tokens": 24, "temperature": 0, "ignore_eos": True, **more}
    request = urllib.request.Request(server.url + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    answer = json.load(urllib.request.urlopen(request, timeout=120))
    return answer["choices"][0]["message"]["content"], answer["usage"]


QUESTIONS = [f"What is rule {n}?" for n in range(8)]


class PrefixCache(unittest.TestCase):
    def test_the_text_is_the_same_with_the_cache_and_without(self):
        drawn = {"temperature": 0.9, "seed": 11, "frequency_penalty": 0.4}
        with Server("--no-prefix-cache") as server:
            cold = [ask(server, question) for question in QUESTIONS]
            cold_drawn = ask(server, QUESTIONS[0], **drawn)
            self.assertEqual({usage["prompt_tokens_details"]["cached_tokens"] for _, usage in cold}, {0})
            self.assertEqual(server.metric("troupe_prefix_cache_hit_tokens_total"), 0)
            self.assertEqual(server.metric("troupe_kv_blocks_cached"), 0)
        with Server() as server:
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                together = list(pool.map(lambda question: ask(server, question), QUESTIONS))
            again = [ask(server, question) for question in reversed(QUESTIONS)][::-1]
            again_drawn = ask(server, QUESTIONS[0], **drawn)
            hits = server.metric("troupe_prefix_cache_hit_tokens_total")
            self.assertGreater(server.metric("troupe_kv_blocks_cached"), 0)
        self.assertEqual([text for text, _ in together], [text for text, _ in cold])
        self.assertEqual([text for text, _ in again], [text for text, _ in cold])
        self.assertEqual(again_drawn[0], cold_drawn[0])
        for _, usage in again:
            self.assertGreater(usage["prompt_tokens_details"]["cached_tokens"], usage["prompt_tokens"] - 17)
            self.assertLess(usage["prompt_tokens_details"]["cached_tokens"], usage["prompt_tokens"])
        told = sum(usage["prompt_tokens_details"]["cached_tokens"] for _, usage in [*together, *again, again_drawn])
        self.assertEqual(told, hits)
        self.assertGreaterEqual(sum(usage["prompt_tokens_details"]["cached_tokens"] > 500 for _, usage in together), 7)


if __name__ == "__main__":
    require_model()
    unittest.main()
