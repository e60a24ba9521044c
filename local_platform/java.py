"""The Java that runs HDFS, Kafka and Spark."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from local_platform.errors import PlatformError

LEAST_JAVA, MOST_JAVA = 17, 21
_REMEDY = "install Java 17 (Debian: openjdk-17-jre-headless, macOS: openjdk@17) or set JAVA_HOME to one"


def find_java() -> str:
    """The path of a fitting `java`: JAVA_HOME's, else the one on PATH; PlatformError when there is none."""
    home = os.environ.get("JAVA_HOME")
    if home:
        java = Path(home) / "bin" / "java"
        if not java.is_file():
            raise PlatformError(f"JAVA_HOME is {home}, but {java} is not there: {_REMEDY}")
        found = str(java)
    elif (on_path := shutil.which("java")) is not None:
        found = on_path
    else:
        raise PlatformError(f"there is no Java on this machine: {_REMEDY}")
    try:
        said = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr
    except OSError:
        said = ""
    version = java_major_version(said)
    if version is None or not LEAST_JAVA <= version <= MOST_JAVA:
        instead = f"Java {version}" if version else "no Java that can be asked its version"
        raise PlatformError(
            f"{found} is {instead}, and Spark needs Java {LEAST_JAVA} to {MOST_JAVA}: {_REMEDY}"
        )
    return found


def java_major_version(version_text: str) -> int | None:
    """17 of 'openjdk version "17.0.15" 2025-04-15', 8 of '"1.8.0_392"'; None of anything else."""
    match = re.search(r'version "(?:1\.)?(\d+)', version_text)
    return int(match[1]) if match else None
