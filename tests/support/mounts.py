"""Secrets and ConfigMaps as files."""

from pathlib import Path


def put(sources: Path, name: str, **keys: str) -> Path:
    """Write keys of a Secret or ConfigMap as regular files, each atomically, and return their directory."""
    directory = sources / name
    directory.mkdir(parents=True, exist_ok=True)
    for key, value in keys.items():
        new = directory / f".{key}.new"
        new.write_text(value)
        new.replace(directory / key)
    return directory


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def visible_files(directory: Path) -> dict[str, str]:
    """Read the files as a program does that ignores the kubelet's version directories."""
    return {name: (directory / name).read_text() for name in names(directory) if not name.startswith("..")}
