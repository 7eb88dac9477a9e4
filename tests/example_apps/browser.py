"""Chromium without a window, driven by its own protocol: what a page looks like to its users.

Owns: one browser process with a profile of its own, and the conversation with it. Never: starts where Chromium or
the client for websockets is missing; it says so by skipping the test.

The protocol: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support import wait_until

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 60.0  # seconds for one answer; a busy machine takes long to start a browser


class Page:
    """One tab."""

    def __init__(self, conversation: Any) -> None:
        self._socket = conversation
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self._happened: set[str] = set()
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._ask("Page.enable")

    def see_as(self, width: int, height: int, *, scheme: str = "light", phone: bool = False) -> None:
        """The size of the window in CSS pixels, and whether the reader wants it `light` or `dark`."""
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self._ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, address: str) -> None:
        self._happened.clear()
        self._ask("Page.navigate", url=address)
        while "Page.loadEventFired" not in self._happened:
            self._hear()

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; of what it promises, where it is a promise."""
        answer = self._ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"the page failed: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_until(self, expression: str) -> None:
        wait_until(lambda: self.evaluate(expression), f"true in the page: {expression}", PATIENCE)

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            heard = self._hear()
            if heard.get("id") == number:
                if "error" in heard:
                    raise AssertionError(f"{method}: {heard['error']}")
                result: dict[str, Any] = heard["result"]
                return result

    def _hear(self) -> dict[str, Any]:
        heard: dict[str, Any] = json.loads(self._socket.recv())
        self._happened.add(heard.get("method", ""))
        return heard


@contextmanager
def browser() -> Iterator[Page]:
    """A tab of a new browser, which ends with the block."""
    websocket = pytest.importorskip("websocket")
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"there is no browser: none of {', '.join(NAMES)} is on PATH")
    with tempfile.TemporaryDirectory(prefix="browser", ignore_cleanup_errors=True) as folder:
        # No sandbox: root, as in a container, cannot have Chromium's. It sees our own pages only.
        process = subprocess.Popen(
            [
                *(program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
                *("--no-first-run", "--hide-scrollbars", "--remote-debugging-port=0", f"--user-data-dir={folder}"),
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            conversation = websocket.create_connection(
                _address(process, Path(folder)), timeout=PATIENCE, suppress_origin=True
            )
            try:
                yield Page(conversation)
            finally:
                conversation.close()
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


def _address(process: subprocess.Popen[bytes], folder: Path) -> str:
    """Where the browser listens: it writes port and path into its profile."""

    def written() -> list[str]:
        assert process.poll() is None, f"the browser ended with {process.returncode}"
        with suppress(OSError):
            words = (folder / "DevToolsActivePort").read_text().split()
            if len(words) == 2:
                return words
        return []

    port, path = wait_until(written, "the browser listens", PATIENCE)
    return f"ws://127.0.0.1:{port}{path}"
