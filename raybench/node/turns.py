"""Whose turn it is on a node: one call alone, or blocks of samples beside each other."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A lock with two ways in. The dispatcher never asks for both at once; this makes sure of it."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._num_beside = 0
        self._alone = False

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until nobody is in, and keep everybody out."""
        with self._change:
            self._change.wait_for(self._nobody)
            self._alone = True
        try:
            yield
        finally:
            with self._change:
                self._alone = False
                self._change.notify_all()

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Wait until nobody is in alone; others may come in beside."""
        with self._change:
            self._change.wait_for(lambda: not self._alone)
            self._num_beside += 1
        try:
            yield
        finally:
            with self._change:
                self._num_beside -= 1
                self._change.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Wait until nobody is in; False if somebody still is after that time."""
        with self._change:
            return self._change.wait_for(self._nobody, timeout_s)

    def _nobody(self) -> bool:
        return not self._alone and not self._num_beside
