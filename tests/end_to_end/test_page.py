"""The chat page in a real browser: type, see text stream, stop, by keyboard alone. TROUPE_SHOTS=DIR keeps screenshots."""
import os
import unittest

from browser import Browser, require_chromium
from troupe_server import Server, require_model

ANSWER = "(document.querySelector('article.assistant:last-of-type .text')?.textContent ?? '')"


class Page(unittest.IsolatedAsyncioTestCase):
    async def shot(self, browser, name):
        if os.environ.get("TROUPE_SHOTS"):
            await browser.photograph(f"{os.environ['TROUPE_SHOTS']}/{name}.png")

    async def open(self, browser, server):
        await browser.resize(1100, 760)
        await browser.call("Page.navigate", url=server.url + "/")
        await browser.wait_for("document.getElementById('link')?.dataset.state === 'on'")

    async def test_type_see_it_stream_and_stop(self):
        with Server() as server:
            async with Browser() as browser:
                await self.open(browser, server)
                await self.shot(browser, "empty")
                await browser.run("localStorage.setItem('troupe.settings', JSON.stringify({system: '', temperature: 0, max_tokens: 120}))")
                await self.open(browser, server)

                await browser.type("Name three rivers in Europe.")
                await browser.press("Enter", "\r")
                first = await browser.wait_for(ANSWER)
                grown = await browser.wait_for(f"{ANSWER}.length > {len(first)} && document.querySelector('article.live') && {ANSWER}")
                self.assertGreater(len(grown), len(first))
                figures = await browser.wait_for("document.querySelector('.figures')?.textContent")
                self.assertRegex(figures, r"\d+ tokens? · first after \d+ ms · [\d.]+ tokens/s")
                await self.shot(browser, "answered")

                await browser.run("localStorage.setItem('troupe.settings', JSON.stringify({system: '', temperature: 0.7, max_tokens: 4000}))")
                await self.open(browser, server)
                await browser.type("Write a very long story about the sea, of at least two thousand words.")
                await browser.press("Enter", "\r")
                await browser.wait_for(f"{ANSWER}.length > 40")
                await browser.press("Escape")
                stopped = await browser.wait_for("document.querySelector('.figures')?.textContent")
                self.assertIn("stopped", stopped)
                self.assertEqual(await browser.run("document.activeElement.id"), "prompt")
                await browser.resize(390, 780, dark=True)
                self.assertTrue(await browser.run("document.documentElement.scrollWidth <= innerWidth"))
                await self.shot(browser, "phone-dark")

                self.assertEqual(browser.problems, [])
                self.assertTrue(all(url.startswith(server.url) for url in browser.requested if url.startswith("http")), browser.requested)

    async def test_what_looks_like_html_stays_text(self):
        with Server() as server:
            async with Browser() as browser:
                await self.open(browser, server)
                made = await browser.run("""import('/markdown.js').then(({render}) => {
                    const div = document.createElement('div');
                    div.append(render('<img src=x onerror=alert(1)> **b** `<i>`\\n\\n```\\n<script>1</script>'));
                    return [div.querySelectorAll('img,script,i').length, div.textContent];
                })""")
                self.assertEqual(made, [0, "<img src=x onerror=alert(1)> b <i><script>1</script>"])
                table = await browser.run(r"""import('/markdown.js').then(({render}) => {
                    const div = document.createElement('div');
                    div.append(render('Sizes:\n| Planet | km |\n|---|--:|\n| **Mars** | 6,779 |\n| <b>x</b> | 1 |\n\nEnd | of | it'));
                    return [div.querySelectorAll('th').length, [...div.querySelectorAll('td')].map((cell) => cell.innerHTML),
                            [...div.querySelectorAll('p')].map((p) => p.textContent)];
                })""")
                self.assertEqual(table, [2, ["<strong>Mars</strong>", "6,779", "&lt;b&gt;x&lt;/b&gt;", "1"], ["Sizes:", "End | of | it"]])

    async def test_a_question_that_failed_can_be_sent_again_and_a_reload_keeps_the_conversation(self):
        server = Server()
        self.addCleanup(server.process.kill)
        async with Browser() as browser:
            await self.open(browser, server)
            await browser.run("localStorage.setItem('troupe.settings', JSON.stringify({system: '', temperature: 0, max_tokens: 8}))")
            await self.open(browser, server)
            await browser.type("Say hello.")
            await browser.press("Enter", "\r")
            await browser.wait_for("document.querySelector('.figures')?.textContent")
            await self.open(browser, server)
            self.assertEqual(await browser.run("[...document.querySelectorAll('article')].map((a) => a.className)"), ["user", "assistant"])
            long = "word " * 9000
            await browser.type(long)
            await browser.press("Enter", "\r")
            self.assertIn("8,192", await browser.wait_for("document.querySelector('.wrong')?.textContent"))
            self.assertEqual(await browser.run("document.getElementById('prompt').value"), long)
            await self.shot(browser, "refused")
            self.assertEqual(len(await browser.run("JSON.parse(sessionStorage.getItem('troupe.history'))")), 2)
            server.__exit__()
            await browser.wait_for("document.getElementById('link').dataset.state === 'off'")
            self.assertTrue(await browser.run("document.getElementById('send').disabled"))


if __name__ == "__main__":
    require_model()
    require_chromium()
    unittest.main()
