"""Environments of other systems, made on demand and kept in the user's cache directory."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

_TIME_LIMIT = 900.0


class Unavailable(Exception):
    """A system cannot be measured here, and why."""


def virtual_environment(name: str, *requirements: str) -> Path:
    """The Python of an environment with these packages in it."""

    def build(folder: Path) -> None:
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *requirements])

    return _kept(name, " ".join((sys.version, *requirements)).encode(), build) / "bin" / "python"


def maven_project(name: str, project: Path) -> str:
    """The Java class path of a project with everything it needs."""
    files = [file for file in sorted(project.rglob("*")) if file.is_file()]

    def build(folder: Path) -> None:
        shutil.copytree(project, folder, dirs_exist_ok=True)
        if shutil.which("mvn") is None:
            raise Unavailable("no mvn was found: install Maven")
        _run(["mvn", "-q", "-B", "-f", str(folder / "pom.xml"), "package"])

    target = _kept(name, b"".join(file.read_bytes() for file in files), build) / "target"
    return f"{target / 'classes'}:{target / 'libs'}/*"


def _kept(name: str, content: bytes, build: Callable[[Path], None]) -> Path:
    """The folder made of `content`, built if it is not there; virtual environments cannot be moved."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reflow-kafka" / "benchmarks"
    folder = cache / f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"
    done = folder / ".complete"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        build(folder)
        done.touch()
    return folder


def _run(command: Sequence[str]) -> None:
    with tempfile.TemporaryFile("w+") as output:
        try:
            code = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=_TIME_LIMIT,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{command[0]} did not end within {_TIME_LIMIT:.0f} s") from None
        if code != 0:
            output.seek(0)
            told = [line for line in output.read().splitlines() if line.strip()]
            wrong = [line for line in told if "ERROR" in line][:3] or told[-1:]
            raise Unavailable(f"{Path(command[0]).name}: {' '.join(wrong) or f'code {code}'}")
