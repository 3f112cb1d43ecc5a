"""Dictionaries of limited size, for keys that users choose."""

from collections import OrderedDict
from collections.abc import Mapping
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


class FairDict(Generic[Value]):
    """A dictionary of objects of limited size, which drops the oldest entry of the namespace that has most of them.

    So a tenant can fill the dictionary, but not drop what belongs to other namespaces.
    """

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._namespaces: dict[str, dict[str, Value]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def in_namespace(self, namespace: str) -> Mapping[str, Value]:
        """Return the values of a namespace by name."""
        return self._namespaces.get(namespace, {})

    def put(self, name: NamespacedName, value: Value) -> tuple[str, Value] | None:
        """Set the value of an object. Returns the namespace and value of the entry that is dropped for it, if any."""
        self.remove(name)
        self._namespaces.setdefault(name[0], {})[name[1]] = value
        self._count += 1
        if self._count <= self._max_entries:
            return None
        largest = max(self._namespaces, key=lambda namespace: len(self._namespaces[namespace]))
        dropped = self.remove((largest, next(iter(self._namespaces[largest]))))
        return None if dropped is None else (largest, dropped)

    def remove(self, name: NamespacedName) -> Value | None:
        """Remove and return the value of an object; None if there is none."""
        values = self._namespaces.get(name[0], {})
        if name[1] not in values:
            return None
        value = values.pop(name[1])
        self._count -= 1
        if not values:
            del self._namespaces[name[0]]
        return value
