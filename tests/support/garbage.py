"""Counts objects that have not been freed, without the garbage collector."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def counted_objects(kind: type) -> Iterator[Callable[[], int]]:
    """Yield a function that returns how many more objects of a type exist than before the block."""
    gc.collect()
    gc.disable()

    def count() -> int:
        return sum(type(it) is kind for it in gc.get_objects())

    before = count()
    try:
        yield lambda: count() - before
    finally:
        gc.enable()
