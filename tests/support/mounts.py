"""Secrets as files."""

from pathlib import Path


def put(sources: Path, name: str, **keys: str) -> Path:
    """Write keys of a Secret or ConfigMap as plain files; returns its folder."""
    folder = sources / name
    folder.mkdir(parents=True, exist_ok=True)
    for key, value in keys.items():
        new = folder / f".{key}.new"
        new.write_text(value)
        new.replace(folder / key)
    return folder


def names(folder: Path) -> list[str]:
    """The names of all that lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def shown(folder: Path) -> dict[str, str]:
    """What somebody who knows nothing of versions reads."""
    return {name: (folder / name).read_text() for name in names(folder) if not name.startswith("..")}
