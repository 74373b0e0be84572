"""Something that goes on in a thread while a test does something else."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def meanwhile(step: Callable[[], object], pause: float) -> Iterator[None]:
    """Does a step again and again, *pause* seconds apart, until the block ends; what it raises is raised then."""
    stopped = threading.Event()

    def go_on() -> None:
        while not stopped.is_set():
            step()
            stopped.wait(pause)

    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(go_on)
        try:
            yield
        finally:
            stopped.set()
    done.result()
