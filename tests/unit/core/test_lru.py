from keyturn.core.lru import FairDict, LruDict


def test_least_recently_used_entry_is_dropped() -> None:
    entries: LruDict[str, int] = LruDict(2)
    entries.put("a", 1)
    entries.put("b", 2)
    entries.get("a")
    entries.put("c", 3)

    assert [entries.get(key) for key in "abc"] == [1, None, 3]
    assert len(entries) == 2


def test_replaced_entry_counts_as_used() -> None:
    entries: LruDict[str, int] = LruDict(2)
    for key, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        assert entries.put(key, value) == value

    assert [entries.get(key) for key in "abc"] == [3, None, 4]


def test_removed_entry_is_missing() -> None:
    entries: LruDict[str, int] = LruDict(2)
    entries.put("a", 1)
    entries.remove("a")
    entries.remove("b")

    assert (entries.get("a"), len(entries)) == (None, 0)


def test_replaced_entry_of_a_namespace_is_its_newest() -> None:
    entries: FairDict[int] = FairDict(2)
    for name, value in (("a", 1), ("b", 2), ("a", 3)):
        assert entries.put(("billing", name), value) is None

    assert entries.put(("billing", "c"), 4) == ("billing", 2)
    assert (entries.in_namespace("billing"), len(entries)) == ({"a": 3, "c": 4}, 2)
