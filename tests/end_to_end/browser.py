"""Headless Chromium driven over its DevTools protocol: just enough to type, click, read and photograph a page."""
import asyncio
import base64
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time

import websockets


def require_chromium():
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found:
        print("skipped: no Chromium; install Debian's `chromium`")
        sys.exit(77)
    return found


class Browser:
    async def __aenter__(self):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.process = subprocess.Popen(
            [require_chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0",
             f"--user-data-dir={self.profile.name}", "about:blank"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        for line in self.process.stderr:
            found = re.search(r"listening on (ws://\S+)", line)
            if found:
                break
        self.socket = await websockets.connect(found.group(1), max_size=1 << 26)
        self.session = None
        self.calls = 0
        self.problems = []  # console errors and failed loads
        target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        self.session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(domain + ".enable")
        return self

    async def __aexit__(self, *_):
        await self.socket.close()
        self.process.kill()
        self.process.wait()
        self.profile.cleanup()

    async def call(self, method, **params):
        self.calls += 1
        message = {"id": self.calls, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        await self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(await asyncio.wait_for(self.socket.recv(), 30))
            if answer.get("id") == message["id"]:
                if "error" in answer:
                    raise RuntimeError(answer["error"])
                return answer["result"]
            self.note(answer)

    def note(self, happened):
        if happened.get("method") == "Runtime.exceptionThrown":
            self.problems.append(happened["params"]["exceptionDetails"]["text"])
        if happened.get("method") == "Log.entryAdded" and happened["params"]["entry"]["level"] == "error":
            self.problems.append(happened["params"]["entry"]["text"])
        if happened.get("method") == "Network.requestWillBeSent":
            self.requested = getattr(self, "requested", []) + [happened["params"]["request"]["url"]]

    async def run(self, script):
        answer = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    async def wait_for(self, script, seconds=30):
        until = time.monotonic() + seconds
        while not (value := await self.run(script)):
            if time.monotonic() > until:
                raise TimeoutError(script)
            await asyncio.sleep(0.03)
        return value

    async def press(self, key, text=None):
        code = {"Enter": 13, "Escape": 27, "Tab": 9}.get(key, 0)
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **({"text": text} if text else {}))
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    async def type(self, text):
        await self.call("Input.insertText", text=text)

    async def resize(self, width, height, dark=False):
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2, mobile=width < 600)
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    async def photograph(self, path):
        shot = await self.call("Page.captureScreenshot", format="png")
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))
