"""The Python that is measured: how it was built, and an optimised one if this machine has one."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
# Measured: the CPU time of the operator with pyenv's default build, compared with Debian's package.
COST = "13 %"
# Debian's patches add an installation scheme. Its packages are built with PGO, but publish the flags of another build.
_PROBE = """
import json, os, platform, sys, sysconfig
print(json.dumps({
    "path": os.path.realpath(sys.executable),
    "version": platform.python_version(),
    "configured": sysconfig.get_config_var("CONFIG_ARGS") or "",
    "compiled": " ".join(sysconfig.get_config_var(name) or "" for name in ("PY_CORE_CFLAGS", "PY_CORE_LDFLAGS")),
    "is_debian": "deb_system" in sysconfig.get_scheme_names(),
}))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python: its real path, its version, the arguments of its `configure`, its compiler flags, who packaged it."""

    path: str
    version: str
    configured: str
    compiled: str
    is_debian: bool

    @property
    def has_pgo(self) -> bool:
        """Whether it was built with profile-guided optimisation."""
        return self.is_debian or "--enable-optimizations" in self.configured or "-fprofile-use" in self.compiled

    @property
    def has_lto(self) -> bool:
        """Whether its flags show link-time optimisation."""
        return "--with-lto" in self.configured or "-flto" in self.compiled

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version, to compare."""
        return tuple(map(int, re.findall(r"\d+", self.version)))

    def describe(self) -> str:
        """Return a line about it."""
        if self.is_debian:
            build = "PGO (a Debian package, whose sysconfig does not record PGO and LTO)"
        else:
            build = f"{'PGO' if self.has_pgo else 'no PGO'}, {'LTO' if self.has_lto else 'no LTO'}"
        debug = ", a debug build" if "--with-pydebug" in self.configured else ""
        return f"Python {self.version}, {self.path}: {build}{debug}"


def probe(path: str) -> Interpreter | None:
    """Return what a Python reports about itself; None if it does not run, such as a shim of pyenv without a version."""
    command = [path, "-IS", "-c", _PROBE]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Interpreter(**json.loads(result.stdout)) if result.returncode == 0 else None


def choose(current: Interpreter, others: Iterator[Interpreter], versions: SpecifierSet) -> Interpreter:
    """Return the current one if it has PGO, else the best other one that has, else the current one."""
    if current.has_pgo:
        return current
    optimised = [each for each in others if each.has_pgo and versions.contains(each.version)]
    return max(optimised, key=lambda each: (each.has_lto, each.numbers), default=current)


def required_versions() -> SpecifierSet:
    """Return `requires-python` of this project."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return SpecifierSet(project["requires-python"])


def installed() -> Iterator[Interpreter]:
    """Yield the Pythons of PATH, of the system, of pyenv and of uv."""
    directories = dict.fromkeys([*map(Path, os.get_exec_path()), Path("/usr/local/bin"), Path("/usr/bin")])
    paths = [path for directory in directories for path in directory.glob("python3*")]
    for managed in (".pyenv/versions", ".local/share/uv/python"):
        paths += (Path.home() / managed).glob("*/bin/python3*")
    programs = [path for path in paths if re.fullmatch(r"python3(\.\d+)?", path.name)]
    for program in dict.fromkeys(map(os.path.realpath, programs)):
        if interpreter := probe(program):
            yield interpreter


def environment(interpreter: Interpreter) -> Path:
    """Return the Python of a virtual environment for it, created as `make dev` does. Raises CalledProcessError."""
    uv = str(Path(sys.executable).with_name("uv"))
    directory = ROOT / "build" / f"bench-python-{interpreter.version}"
    python = directory / "bin" / "python"
    target, requirements = ["--quiet", "--python", str(python)], ROOT / "requirements"
    files = [str(requirements / name) for name in ("bootstrap.txt", "dev.txt")]
    for command in (
        ["venv", "--quiet", "--allow-existing", "--python", interpreter.path, str(directory)],
        ["pip", "sync", *target, "--compile-bytecode", "--require-hashes", *files],
        ["pip", "install", *target, "--no-deps", "--editable", str(ROOT)],
    ):
        subprocess.run([uv, *command], check=True)
    return python


def use_optimised() -> str:
    """Continue this program under an optimised Python if there is one; otherwise return the head of the table."""
    current, versions = probe(sys.executable), required_versions()
    if current is None:
        raise RuntimeError(f"{sys.executable} does not run")
    chosen = choose(current, installed(), versions)
    problem = f"no Python on this machine has it and satisfies {versions}"
    if chosen != current:
        try:
            python = environment(chosen)
        except (OSError, subprocess.CalledProcessError):
            problem = f"no environment for {chosen.path} could be created"
        else:
            os.execv(python, [str(python), "-m", "tools.bench"])  # noqa: S606 - it replaces this process
    if current.has_pgo:
        return current.describe()
    return f"{current.describe()}\nWithout PGO, the operator needs {COST} more CPU; {problem}."
