"""A headless Chromium, spoken to in the DevTools protocol over a pipe with nothing but Python."""

import base64
import json
import os
import select
import shutil
import subprocess
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_TIMEOUT = 60


def find():
    """Where the browser is, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One browser with one page.

    Attributes:
        messages: what the page said on the console, and exceptions that nobody caught.
        requests: what it asked for.
    """

    def __init__(self, profile):
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        flags = "--headless --no-sandbox --disable-gpu --no-first-run --remote-debugging-pipe"
        # Chromium reads commands from file 3 and writes answers to file 4.
        command = f'exec "{find()}" {flags} --user-data-dir="{profile}" about:blank'
        self._process = subprocess.Popen(
            ["bash", "-c", f"{command} 3<&{to_read} 4>&{to_write}"],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer, self._number = b"", 0
        self.messages, self.requests, self._loaded = [], [], False
        self._session = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def close(self):
        self._process.terminate()
        self._process.wait()
        os.close(self._read)
        os.close(self._write)

    def send(self, method, **params):
        """Give a command and wait for its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _receive(self):
        deadline = time.monotonic() + _TIMEOUT
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], deadline - time.monotonic())
            assert ready, "Chromium does not answer"
            part = os.read(self._read, 1 << 20)
            assert part, "Chromium has ended"
            self._buffer += part
        first, _, self._buffer = self._buffer.partition(b"\0")
        answer = json.loads(first)
        method, params = answer.get("method"), answer.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.messages.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled":
            self.messages.append(f"console.{params['type']}")
        elif method == "Log.entryAdded":
            self.messages.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Page.loadEventFired":
            self._loaded = True
        return answer

    def open(self, path, *, width=1280, height=900, dark=False):
        """Load a file; seconds until it had loaded."""
        self.messages.clear()
        self.requests.clear()
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", media="", features=[scheme])
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self._loaded = False
        start = time.monotonic()
        self.send("Page.navigate", url=path.absolute().as_uri())
        while not self._loaded:
            self._receive()
        return time.monotonic() - start

    def run(self, script):
        """The value of a JavaScript expression, or of a promise."""
        found = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def all(self, selector, of):
        """A JavaScript expression of `e` for each element of a selector."""
        return self.run(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => {of})")

    def click(self, selector, place=0):
        """Click on one of the elements of a selector."""
        self.run(f"document.querySelectorAll({json.dumps(selector)})[{place}].click()")

    def focus(self, selector, place=0):
        """Give one of the elements the focus."""
        self.run(f"document.querySelectorAll({json.dumps(selector)})[{place}].focus()")

    def fill(self, selector, value):
        """Set the value of a field, as typing or choosing does."""
        told = "".join(f"e.dispatchEvent(new Event('{kind}'));" for kind in ("input", "change"))
        found = f"document.querySelector({json.dumps(selector)})"
        self.run(f"(e => {{ e.value = {json.dumps(value)}; {told} }})({found})")

    def press(self, key):
        """Press a key of the keyboard."""
        codes = {"Tab": 9, "Enter": 13, " ": 32}
        text = {"Enter": "\r", " ": " "}.get(key, "")
        common = {"key": key, "windowsVirtualKeyCode": codes[key]}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def pdf(self):
        """The page as printed."""
        return base64.b64decode(self.send("Page.printToPDF", printBackground=True)["data"])

    def screenshot(self, path):
        """The visible part as PNG."""
        data = self.send("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))
