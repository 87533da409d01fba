"""Bytes of tokens to text that can be shown: whole characters only, and nothing that may become a stop string."""

from __future__ import annotations

import codecs


class TextStream:
    """Collects the bytes of tokens, releases text.

    Text is held back while it could be the beginning of a stop string, or of a character. Linear in the text's length.
    """

    def __init__(self, stop: tuple[str, ...] = ()) -> None:
        self._bytes = b""  # of a character that is not whole
        self._stop = stop
        self._longest = max(map(len, stop), default=0)
        self._held = ""
        self.stopped = False
        self.stopping_word: str | None = None

    def push(self, data: bytes) -> str:
        """Add a token's bytes; the text that may be shown now. Sets `stopped` and `stopping_word` when a stop string came."""
        data = self._bytes + data
        text, used = codecs.utf_8_decode(data, "replace", False)
        self._bytes = data[used:]
        return self._release(text) if self._stop else text

    def finish(self) -> str:
        """No more bytes come: the text that was held back."""
        text = self._release(self._bytes.decode("utf-8", "replace"))
        self._bytes = b""
        held, self._held = self._held, ""
        return text + held

    def _release(self, text: str) -> str:
        if self.stopped:
            return ""
        if not self._stop:
            return text
        self._held += text
        found = [(index, stop) for stop in self._stop if (index := self._held.find(stop)) >= 0]
        if found:
            first, self.stopping_word = min(found, key=lambda one: one[0])
            released, self._held = self._held[:first], ""
            self.stopped = True
            return released
        keep = self._could_begin_stop()
        released, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep:]
        return released

    def _could_begin_stop(self) -> int:
        """Length of the longest end of the held text that is the beginning of a stop string."""
        for length in range(min(len(self._held), self._longest - 1), 0, -1):
            end = self._held[-length:]
            if any(stop.startswith(end) for stop in self._stop):
                return length
        return 0
