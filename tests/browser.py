"""Headless Chromium for tests, driven over its DevTools pipe: no package and no port are needed.

Commands go to file descriptor 3 of the browser and answers come from descriptor 4, JSON that ends in a zero byte.
"""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

# Generous, since a test must not fail for a busy machine; what is awaited comes within seconds.
PATIENCE_S = 300.0


def find_chromium() -> str | None:
    """Return the browser's program, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """A running browser; ``open`` gives pages."""

    def __init__(self, program: str, profile: Path) -> None:
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        # Copies far from 3 and 4, so that putting one there cannot close the other.
        high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in (theirs_in, theirs_out)]

        def place_pipes() -> None:
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--no-first-run",
            "--no-default-browser-check",
            f"--user-data-dir={profile}",
            "--remote-debugging-pipe",
        ]
        self._process = subprocess.Popen(
            [program, *options, "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=place_pipes,
        )
        for end in (*high, theirs_in, theirs_out):
            os.close(end)
        self._in, self._out = ours_in, ours_out
        self._buffer = b""
        self._number = 0
        self.events: list[dict] = []

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self.send("Browser.close")
        for end in (self._in, self._out):
            os.close(end)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def send(self, method: str, session: str | None = None, **parameters) -> dict:
        """Send a command and return its answer; what else comes meanwhile is kept in ``events``."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        deadline = time.monotonic() + PATIENCE_S
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def _receive(self, deadline: float) -> dict:
        while b"\0" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._in], [], [], left)[0]:
                raise TimeoutError("the browser does not answer")
            piece = os.read(self._in, 1 << 20)
            if not piece:
                raise RuntimeError("the browser has ended")
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, address: str, *, width_px: int = 1280, height_px: int = 900, dark: bool = False) -> "Page":
        """Open an address in a tab of its own."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, target)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.send(f"{domain}.enable")
        page.send(
            "Emulation.setDeviceMetricsOverride",
            width=width_px,
            height=height_px,
            deviceScaleFactor=1,
            mobile=width_px < 600,
        )
        page.send(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        page.send("Page.navigate", url=address)
        return page


class Page:
    """One tab: what it shows, what it asked for, what went wrong in it."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target

    def close(self) -> None:
        """Close the tab."""
        self._browser.send("Target.closeTarget", targetId=self._target)

    def send(self, method: str, **parameters) -> dict:
        return self._browser.send(method, self._session, **parameters)

    def evaluate(self, expression: str):
        """Return the value of a JavaScript expression; a promise is awaited."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", "an exception"))
        return answer["result"].get("value")

    def wait(self, expression: str, patience_s: float = PATIENCE_S):
        """Wait until a JavaScript expression is true, and return its value."""
        deadline = time.monotonic() + patience_s
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < deadline, f"waited for {expression}; errors: {self.errors}"
            time.sleep(0.02)
        return value

    def go(self, hash_: str, ready: str) -> None:
        """Change the address's hash and wait until the page says ``ready``."""
        self.evaluate(f"delete document.documentElement.dataset.ready, location.hash = {json.dumps(hash_)}, 0")
        self.ready(ready)

    def ready(self, ready: str = "") -> None:
        """Wait until the page says that it shows something: a list, a person."""
        self.wait(f"document.documentElement?.dataset.ready?.startsWith({json.dumps(ready)})")

    def press(self, key: str, text: str = "", *, shift: bool = False) -> None:
        """Press and release a key ("ArrowRight", "Escape", "/" with its text)."""
        modifiers = 8 * shift
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, text=text, modifiers=modifiers)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, modifiers=modifiers)

    def texts(self, selector: str) -> list[str]:
        """Return the text of every element that a selector finds."""
        return self.evaluate(f"[...document.querySelectorAll({json.dumps(selector)})].map((node) => node.textContent)")

    def screenshot(self, path: Path, *, full: bool = False) -> None:
        """Write a PNG of what is shown, or of the whole page."""
        answer = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=full)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _events(self, method: str) -> list[dict]:
        self.evaluate("0")  # what the page has said so far is then here
        of_ours = (event for event in self._browser.events if event.get("sessionId") == self._session)
        return [event["params"] for event in of_ours if event["method"] == method]

    @property
    def requests(self) -> list[str]:
        """The addresses that the page asked for."""
        return [event["request"]["url"] for event in self._events("Network.requestWillBeSent")]

    @property
    def errors(self) -> list[str]:
        """What the console was told in warning or error, exceptions, refused and failed loads."""
        told = [
            str([argument.get("value", argument.get("description")) for argument in event["args"]])
            for event in self._events("Runtime.consoleAPICalled")
            if event["type"] in ("error", "warning", "assert")
        ]
        thrown = [str(event["exceptionDetails"].get("exception")) for event in self._events("Runtime.exceptionThrown")]
        logged = [
            f"{event['entry']['text']} {event['entry'].get('url', '')}"
            for event in self._events("Log.entryAdded")
            if event["entry"]["level"] in ("error", "warning")
        ]
        return told + thrown + logged


def require_chromium() -> str:
    """Return the browser's program, or skip the test."""
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium on PATH (Debian's package: chromium)")
    return program
