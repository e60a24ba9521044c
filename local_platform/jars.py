"""The jars of HDFS, Kafka and Spark's Kafka connector, by locked coordinate and checksum.

They are fetched by Apache Ivy, whose jar comes inside pyspark's wheel, so that nothing but Java is needed.
"""

import hashlib
import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from xml.sax.saxutils import quoteattr

from local_platform.errors import PlatformError
from local_platform.processes import locked

LOCKS = Path(__file__).with_name("jar_locks")
JAR_SETS = ("hdfs", "kafka", "spark-kafka")
IVY_PROCESSES = 4

_LOCK_LINE = re.compile(
    r"(?P<group>[\w.-]+):(?P<artifact>[\w.-]+):(?P<version>[\w.-]+) sha256:(?P<sha256>[0-9a-f]{64})"
)

_IVY_SETTINGS = """<ivysettings>
  <settings defaultResolver="central"/>
  <caches defaultCacheDir={cache}/>
  <resolvers><ibiblio name="central" m2compatible="true" usepoms="false"/></resolvers>
</ivysettings>
"""
# Without the artifact element Ivy also takes a module's test jar.
_IVY_DEPENDENCY = (
    '<dependency org="{group}" name="{artifact}" rev="{version}" transitive="false">'
    '<artifact name="{artifact}" type="jar" ext="jar"/></dependency>'
)
_IVY_MODULE = """<ivy-module version="2.0">
  <info organisation="usedcars" module="jars"/>
  <dependencies>{dependencies}</dependencies>
</ivy-module>
"""


@dataclass(frozen=True, order=True)
class Jar:
    """One locked jar."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """The name it has in its folder."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def coordinate(self) -> str:
        """group:artifact:version."""
        return f"{self.group}:{self.artifact}:{self.version}"

    def is_intact(self, folder: Path) -> bool:
        """Whether the folder holds it with the locked checksum."""
        file = folder / self.file_name
        return file.is_file() and sha256_of(file) == self.sha256


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def parse_lock(text: str) -> tuple[Jar, ...]:
    """The jars of a lock file: `group:artifact:version sha256:<hex>` a line; `#` begins a comment.

    Raises PlatformError for a line of another form.
    """
    jars = []
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.split("#")[0].strip()
        if not stripped:
            continue
        match = _LOCK_LINE.fullmatch(stripped)
        if match is None:
            raise PlatformError(
                f"line {number} of a jar lock is {stripped[:80]!r}, which is not "
                "'group:artifact:version sha256:<64 hex digits>': restore the file from version control"
            )
        jars.append(Jar(**match.groupdict()))
    return tuple(jars)


def locked_jars(jar_set: str) -> tuple[Jar, ...]:
    """The jars of one of JAR_SETS."""
    return parse_lock((LOCKS / f"{jar_set}.lock").read_text())


def class_path(jars_folder: Path, jar_set: str) -> str:
    """The Java class path of a set, in a fixed order."""
    return ":".join(str(jars_folder / jar_set / jar.file_name) for jar in locked_jars(jar_set))


def fetch_jars(jars_folder: Path, java: str, jar_sets: Iterable[str] = JAR_SETS) -> int:
    """Bring what is missing of the sets into `<jars_folder>/<set>/`; returns how many jars were fetched.

    A set whose marker carries the checksum of its lock, and whose files are all there, is complete: their
    bytes are not read again. Jars appear under their name only with the locked checksum, so an interrupted
    call is simply made again; calls at the same time wait for each other.
    """
    with locked(jars_folder / ".lock"):
        return _fetch_missing(jars_folder, java, jar_sets)


def _fetch_missing(jars_folder: Path, java: str, jar_sets: Iterable[str]) -> int:
    missing: dict[str, tuple[Jar, ...]] = {}
    for jar_set in jar_sets:
        folder, lock = jars_folder / jar_set, LOCKS / f"{jar_set}.lock"
        marker = folder / ".complete"
        jars = locked_jars(jar_set)
        if (
            marker.is_file()
            and marker.read_text() == sha256_of(lock)
            and all((folder / jar.file_name).is_file() for jar in jars)
        ):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        for stale in set(folder.glob("*.jar")) - {folder / jar.file_name for jar in jars}:
            stale.unlink()
        missing[jar_set] = tuple(jar for jar in jars if not jar.is_intact(folder))
    wanted = sorted({jar for jars in missing.values() for jar in jars})
    if wanted:
        retrieved = jars_folder / "retrieved"
        # Ivy fetches one jar after the other: several of them share the work.
        parts = [part for part in (wanted[start::IVY_PROCESSES] for start in range(IVY_PROCESSES)) if part]
        works = [jars_folder / f"ivy-{number}" for number in range(len(parts))]
        with ThreadPoolExecutor(IVY_PROCESSES) as ivies:
            list(ivies.map(_retrieve, parts, works, repeat(retrieved), repeat(java)))
        for jar_set, jars in missing.items():
            for jar in jars:
                arrived = retrieved / jar.group / jar.file_name
                if sha256_of(arrived) != jar.sha256:
                    # Ivy would take them from its cache the next time.
                    for fetched in (retrieved, *works):
                        shutil.rmtree(fetched)
                    raise PlatformError(
                        f"{jar.coordinate} arrived with another checksum than the locked one: do not use it; "
                        f"run the command again, and if it stays so, ask who changed {jar_set}.lock"
                    )
                shutil.copyfile(arrived, target := jars_folder / jar_set / f".{jar.file_name}.part")
                target.replace(jars_folder / jar_set / jar.file_name)
        shutil.rmtree(retrieved)
        for work in works:
            shutil.rmtree(work)
    for jar_set in missing:
        (jars_folder / jar_set / ".complete").write_text(sha256_of(LOCKS / f"{jar_set}.lock"))
    return len(wanted)


def _retrieve(jars: Sequence[Jar], work: Path, target: Path, java: str) -> None:
    """Let Ivy put the jars into `<target>/<group>/<artifact>-<version>.jar`; `work` is its own folder."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "settings.xml").write_text(_IVY_SETTINGS.format(cache=quoteattr(str(work / "cache"))))
    dependencies = "".join(
        _IVY_DEPENDENCY.format(group=jar.group, artifact=jar.artifact, version=jar.version) for jar in jars
    )
    (work / "ivy.xml").write_text(_IVY_MODULE.format(dependencies=dependencies))
    finished = subprocess.run(
        [
            *(java, "-cp", str(ivy_jar()), "org.apache.ivy.Main", "-warn"),
            *("-settings", str(work / "settings.xml"), "-ivy", str(work / "ivy.xml")),
            *("-retrieve", f"{target}/[organisation]/[artifact]-[revision].[ext]"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    absent = [jar.coordinate for jar in jars if not (target / jar.group / jar.file_name).is_file()]
    if finished.returncode or absent:
        log = work / "ivy.log"
        log.write_text(finished.stdout + finished.stderr)
        raise PlatformError(
            f"{len(absent) or len(jars)} jars could not be fetched from Maven Central, the first of them "
            f"{(absent or [jars[0].coordinate])[0]}: check the network and run the command again (log: {log})"
        )


def spark_jars(pattern: str = "*.jar") -> list[Path]:
    """The jars inside the installed pyspark, found without importing it."""
    pyspark = importlib.util.find_spec("pyspark")
    if pyspark is None or pyspark.origin is None:
        raise PlatformError("pyspark is not installed, and its jars come with it: run 'make setup'")
    return sorted(Path(pyspark.origin).parent.glob(f"jars/{pattern}"))


def ivy_jar() -> Path:
    """Ivy's jar, which comes with pyspark."""
    found = spark_jars("ivy-*.jar")
    if not found:
        raise PlatformError("this pyspark brings no Ivy jar: run 'make setup' to install the locked version")
    return found[-1]
