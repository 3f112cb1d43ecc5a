"""Dictionaries of limited size, for keys that users choose."""

from collections import Counter, OrderedDict
from typing import Generic, TypeVar

from keyturn.api.base import NamespacedName

Key = TypeVar("Key")
Value = TypeVar("Value")


class LruDict(Generic[Key, Value]):
    """A dictionary that drops the least recently used entry when it has more than `max_entries`."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[Key, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def get(self, key: Key) -> Value | None:
        """Return the value of a key, which counts as a use; None if there is none."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key]

    def put(self, key: Key, value: Value) -> Value:
        """Set and return the value of a key, which counts as a use."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)
        return value

    def remove(self, key: Key) -> None:
        """Remove a key, if it exists."""
        self._entries.pop(key, None)


def put_fairly(entries: dict[NamespacedName, Value], name: NamespacedName, value: Value, max_entries: int) -> None:
    """Set the value of an object. If there are too many, the oldest of the namespace that has most of them is dropped.

    So a tenant can fill the dictionary, but not drop what belongs to other namespaces.
    """
    entries[name] = value
    if len(entries) > max_entries:
        [(largest, _)] = Counter(namespace for namespace, _ in entries).most_common(1)
        del entries[next(key for key in entries if key[0] == largest)]
