"""What a broker runs of: the Java of this machine, and jars that are fetched once."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from reflow_kafka.errors import ReflowError

KAFKA_VERSION = "4.1.1"
JAVA_WANTED = 17  # what brokers from 4.0 on need

_DOWNLOAD_TIMEOUT = 600.0

# Pinned, so that the same jars come on every machine. Kafka brings log4j without its SLF4J binding.
_POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>reflow-kafka</groupId><artifactId>dev-broker</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.24.3</version>
    </dependency>
  </dependencies>
</project>
"""
_MAVEN_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies"


def find_java() -> str:
    """The `java` to use, proven to be new enough."""
    home = os.environ.get("JAVA_HOME")
    java = (
        str(Path(home, "bin", "java"))
        if home and Path(home, "bin", "java").exists()
        else shutil.which("java")
    )
    if java is None:
        raise ReflowError(
            f"no java was found, Kafka needs Java {JAVA_WANTED} or newer: install it or set JAVA_HOME"
        )
    told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', told)
    if found is None or int(found[1]) < JAVA_WANTED:
        version = f"Java {found[1]}" if found else "no usable Java"
        wanted = f"Kafka needs Java {JAVA_WANTED} or newer: install it or set JAVA_HOME"
        raise ReflowError(f"{java} is {version}, {wanted}")
    return java


def kafka_libs() -> Path:
    """The directory with the broker's jars, fetched at first use."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reflow-kafka"
    target = cache / f"kafka-{KAFKA_VERSION}"
    libs = target / "libs"
    if libs.is_dir():
        return libs
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"kafka-{KAFKA_VERSION}.lock").open("w") as lock:
        # The lock goes with its holder, and the holder's download has a deadline.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not libs.is_dir():
            # Made aside and renamed: half a download is never taken for a broker.
            with tempfile.TemporaryDirectory(prefix="download-", dir=cache) as temporary:
                made = Path(temporary) / target.name
                made.mkdir()
                _download(made)
                made.rename(target)
    return libs


def _download(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise ReflowError(
            f"no mvn was found, it is needed once to fetch Kafka {KAFKA_VERSION}: install Maven"
        )
    pom = folder / "pom.xml"
    pom.write_text(_POM)
    where = f"-DoutputDirectory={folder / 'libs'}"
    try:
        done = subprocess.run(
            [maven, "-q", "-B", "-f", str(pom), _MAVEN_GOAL, "-DincludeScope=runtime", where],
            capture_output=True,
            text=True,
            timeout=_DOWNLOAD_TIMEOUT,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise ReflowError(
            f"mvn did not fetch Kafka {KAFKA_VERSION} within {_DOWNLOAD_TIMEOUT:.0f} s"
        ) from None
    if done.returncode != 0:
        errors = [line for line in done.stdout.splitlines() if line.startswith("[ERROR]")]
        why = errors[0] if errors else last_line(done.stdout + done.stderr)
        raise ReflowError(f"mvn could not fetch Kafka {KAFKA_VERSION}: {why}")


def last_line(text: str) -> str:
    """What a program said last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
