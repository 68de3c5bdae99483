"""A real browser without a screen, driven over a pipe in its own protocol (Chrome DevTools): nothing but the standard library."""

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-quic", "--disable-dev-shm-usage", "--hide-scrollbars",
         "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--force-color-profile=srgb")
LAUNCH = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
PATIENCE = 60.0  # seconds


class Browser:
    """One page in one browser. `events` holds what the browser told without being asked, in order."""

    def __init__(self, profile: Path, *flags: str) -> None:
        program = next(path for name in PROGRAMS if (path := shutil.which(name)))
        told, self._answers = os.pipe(), os.pipe()
        self._commands = told[1]
        # The browser wants its pipe as descriptors 3 and 4; a small Python in between puts them there.
        high = [os.dup(told[0]), os.dup(self._answers[1])]
        for descriptor in high:
            os.set_inheritable(descriptor, True)
        more = [*FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"]
        command = [sys.executable, "-c", LAUNCH, *map(str, high), program, *more]
        self.process = subprocess.Popen(command, pass_fds=high, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for descriptor in (*high, told[0], self._answers[1]):
            os.close(descriptor)
        self._reader = os.fdopen(self._answers[0], "rb", buffering=0)
        self._buffer, self._number, self.events, self._session = b"", 0, [], None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError, EOFError):
            self._session = None
            self.send("Browser.close")
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.close()
        os.close(self._commands)

    def send(self, method: str, **parameters: object) -> dict:
        """A command's result."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def _read(self) -> dict:
        while b"\0" not in self._buffer:
            content = self._reader.read(1 << 20)
            if not content:
                raise EOFError("the browser has gone")
            self._buffer += content
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, page: Path) -> None:
        """Loads a file and waits until it and its pictures are there."""
        self.events.clear()
        self.send("Page.navigate", url=page.resolve().as_uri())
        self.wait_for("document.readyState === 'complete'")

    def value(self, expression: str) -> object:
        """What a JavaScript expression is."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Until a JavaScript expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.value(expression):
            assert time.monotonic() < end, f"still not true: {expression}"
            time.sleep(0.02)

    def resize(self, width: int, height: int = 900) -> None:
        """The window, CSS pixels."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)

    def prefer(self, **features: str) -> None:
        """Media features such as prefers_color_scheme="dark"; media="print" is one too."""
        media = features.pop("media", "")
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.send("Emulation.setEmulatedMedia", media=media, features=named)

    def mouse(self, kind: str, x: float, y: float, **more: object) -> None:
        """mousePressed, mouseMoved, mouseReleased or mouseWheel, at a place in the window."""
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=0 if kind == "mouseReleased" else 1,
                  **({"clickCount": 1} if kind != "mouseWheel" else {}), **more)

    def drag(self, begin: tuple[float, float], end: tuple[float, float]) -> None:
        """The left button from one place to another."""
        self.mouse("mousePressed", *begin)
        for part in (0.25, 0.5, 0.75, 1.0):
            self.mouse("mouseMoved", *(a + part * (b - a) for a, b in zip(begin, end)))
        self.mouse("mouseReleased", *end)

    def screenshot(self) -> bytes:
        """PNG of the window."""
        return base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])

    def requests(self) -> list[str]:
        """Addresses asked for since `open`, those that hold their own content left out."""
        asked = [event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [url for url in asked if not url.startswith("data:")]

    def complaints(self) -> list[str]:
        """Errors and warnings since `open`: exceptions, console, refused loads."""
        found = []
        for event in self.events:
            parameters = event.get("params", {})
            if event["method"] == "Runtime.exceptionThrown":
                found.append(parameters["exceptionDetails"].get("exception", {}).get("description", "exception"))
            elif event["method"] == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
                found.append(str(parameters["args"]))
            elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
                found.append(parameters["entry"]["text"])
        return found
