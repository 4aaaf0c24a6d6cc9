"""Chromium without a window, driven by the WebDriver protocol: plain HTTP to chromedriver."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-dev-shm-usage", "--force-device-scale-factor=1", "--window-size=1400,900")  # fmt: skip
PATIENCE = 60.0
"""Seconds until a browser that does not answer is given up."""

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # chromedriver runs here


def programs() -> tuple[str, str] | None:
    """Chromium and its driver; None where they are not installed."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    return (chromium, driver) if chromium and driver else None


class Browser:
    """One page at a time."""

    def __init__(self, profile: Path) -> None:
        found = programs()
        assert found is not None, "there is no browser"
        chromium, driver = found
        self._driver = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True)
        try:
            self._url = f"http://127.0.0.1:{self._port()}/session"
            options = {"binary": chromium, "args": [*FLAGS, f"--user-data-dir={profile}"]}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            answer = self._send("POST", "", {"capabilities": {"alwaysMatch": wanted}})
            self._url += f"/{answer['sessionId']}"
        except BaseException:
            self._driver.kill()
            raise

    def _port(self) -> int:
        assert self._driver.stdout is not None
        for line in self._driver.stdout:
            if "started successfully on port" in line:
                return int(line.rstrip(".\n").rpartition(" ")[2])
        raise AssertionError("chromedriver did not start")

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url + path, data, headers, method=method)
        with _OPENER.open(request, timeout=PATIENCE) as answer:
            return json.load(answer)["value"]

    def open(self, path: Path) -> None:
        """Open a file, and wait until its program has drawn it."""
        self._send("POST", "/url", {"url": path.resolve().as_uri()})
        self.wait_for("return document.body.dataset.state === 'ready'")

    def wait_for(self, script: str) -> None:
        end = time.monotonic() + PATIENCE
        while not self.run(script):
            assert time.monotonic() < end, f"it never came true: {script}; {self.messages()}"
            time.sleep(0.02)

    def run(self, script: str) -> Any:
        """What a script returns in the page."""
        return self._send("POST", "/execute/sync", {"script": script, "args": []})

    def messages(self) -> list[str]:
        """What the console has said since the last call."""
        return [entry["message"] for entry in self._send("POST", "/se/log", {"type": "browser"})]

    def click(self, x: float, y: float) -> None:
        """Press and release the mouse at a point of the window."""
        move = {"type": "pointerMove", "duration": 0, "x": round(x), "y": round(y)}
        press = [move, {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": press}
        self._send("POST", "/actions", {"actions": [mouse]})

    def type(self, keys: str) -> None:
        """Press keys, whatever has the focus."""
        presses = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._send("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": presses}]})

    def screenshot(self) -> bytes:
        return base64.b64decode(self._send("GET", "/screenshot"))

    def close(self) -> None:
        try:
            self._send("DELETE", "")
        finally:
            self._driver.kill()
            self._driver.wait()
            assert self._driver.stdout is not None
            self._driver.stdout.close()
