"""HDFS as it runs in production: a NameNode and a DataNode, each a JVM of its own, with WebHDFS."""

import shutil
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from xml.sax.saxutils import escape

import requests

from local_platform.errors import PlatformError
from local_platform.jars import class_path
from local_platform.service import Service, ask, java_command
from local_platform.settings import HOST, PlatformSettings

# The jars carry no web pages; the servers want the folders nevertheless. WebHDFS needs no page.
WEB_FOLDERS = ("hdfs", "datanode", "static", "logs")
LAKE_FOLDERS = ("/usedcars", "/usedcars/incoming")
# Half of the CPU of a start went to the JVM's two compilers (async-profiler); here one does.
_QUICK_START = ("-XX:TieredStopAtLevel=1",)

_LOG4J = """log4j.rootLogger=INFO,stderr
log4j.appender.stderr=org.apache.log4j.ConsoleAppender
log4j.appender.stderr.target=System.err
log4j.appender.stderr.layout=org.apache.log4j.PatternLayout
log4j.appender.stderr.layout.ConversionPattern=%d{ISO8601} %p %c{1}: %m%n
log4j.logger.BlockStateChange=WARN
log4j.logger.org.apache.hadoop.hdfs.StateChange=WARN
"""


def hdfs_services(settings: PlatformSettings, java: str) -> tuple[Service, Service]:
    """The NameNode and the DataNode."""
    configuration = settings.home_folder / "hdfs" / "conf"
    libraries = f"{configuration}:{class_path(settings.jars_folder, 'hdfs')}"

    def command(heap_mb: int, main: str) -> tuple[str, ...]:
        return java_command(java, heap_mb, libraries, main, options=_QUICK_START)

    namenode = Service(
        name="namenode",
        command=command(settings.namenode_heap_mb, "org.apache.hadoop.hdfs.server.namenode.NameNode"),
        ports=(settings.port("namenode"), settings.port("namenode_http")),
        environment={"HADOOP_USER_NAME": settings.hdfs_user},
        prepare=partial(_prepare, settings, java, libraries),
        ready=partial(_namenode_ready, settings, datanodes=0),
    )
    datanode = Service(
        name="datanode",
        command=command(settings.datanode_heap_mb, "org.apache.hadoop.hdfs.server.datanode.DataNode"),
        ports=(settings.port("datanode"), settings.port("datanode_http"), settings.port("datanode_ipc")),
        needs=("namenode",),
        environment={"HADOOP_USER_NAME": settings.hdfs_user},
        ready=partial(_namenode_ready, settings, datanodes=1),
        finish=partial(_make_lake_folders, settings),
    )
    return namenode, datanode


def _properties(settings: PlatformSettings) -> Mapping[str, Mapping[str, str]]:
    """The Hadoop configuration files and what stands in them."""
    data = settings.home_folder / "hdfs"
    core = {
        "fs.defaultFS": f"hdfs://{settings.address('namenode')}",
        "hadoop.tmp.dir": str(data / "tmp"),
        "hadoop.http.staticuser.user": settings.hdfs_user,
    }
    hdfs = {
        "dfs.replication": "1",
        "dfs.namenode.name.dir": f"file://{data / 'name'}",
        "dfs.datanode.data.dir": f"file://{data / 'data'}",
        "dfs.namenode.rpc-address": settings.address("namenode"),
        "dfs.namenode.rpc-bind-host": HOST,
        "dfs.namenode.http-address": settings.address("namenode_http"),
        "dfs.namenode.http-bind-host": HOST,
        "dfs.datanode.address": settings.address("datanode"),
        "dfs.datanode.http.address": settings.address("datanode_http"),
        "dfs.datanode.ipc.address": settings.address("datanode_ipc"),
        "dfs.datanode.hostname": HOST,
        "dfs.client.use.datanode.hostname": "true",
        "dfs.namenode.datanode.registration.ip-hostname-check": "false",
        "dfs.webhdfs.enabled": "true",
        "dfs.permissions.superusergroup": settings.hdfs_user,
        # One DataNode, one machine: leave safe mode as soon as its blocks are known.
        "dfs.namenode.safemode.extension": "0",
        # What WebHDFS writes is closed once its last block is reported, a few ms after it is written:
        # asked again after 400 ms by default.
        "dfs.client.block.write.locateFollowingBlock.initial.delay.ms": "10",
        "dfs.client.block.write.locateFollowingBlock.retries": "10",
        "dfs.heartbeat.interval": "1",
        "dfs.namenode.heartbeat.recheck-interval": "5000",
    }
    return {"core-site.xml": core, "hdfs-site.xml": hdfs}


def _prepare(settings: PlatformSettings, java: str, libraries: str) -> None:
    """Write the configuration, and format the NameNode's folder where it has never been."""
    data = settings.home_folder / "hdfs"
    configuration = data / "conf"
    for folder in WEB_FOLDERS:
        (configuration / "webapps" / folder).mkdir(parents=True, exist_ok=True)
    for file, properties in _properties(settings).items():
        rows = "".join(
            f"<property><name>{escape(name)}</name><value>{escape(value)}</value></property>\n"
            for name, value in properties.items()
        )
        (configuration / file).write_text(f"<configuration>\n{rows}</configuration>\n")
    (configuration / "log4j.properties").write_text(_LOG4J)
    if (data / "name" / "current" / "VERSION").is_file():
        return
    # A format that was cut short leaves a folder without VERSION: nothing is in it yet.
    shutil.rmtree(data / "name", ignore_errors=True)
    if (data / "data").exists():
        raise PlatformError(
            f"HDFS has blocks in {data / 'data'} but its names in {data / 'name'} are gone: "
            "restore that folder, or run 'make clean' to begin anew without the data"
        )
    main = "org.apache.hadoop.hdfs.server.namenode.NameNode"
    formatted = subprocess.run(
        java_command(java, 256, libraries, main, "-format", "-nonInteractive", options=_QUICK_START),
        env={"HADOOP_USER_NAME": settings.hdfs_user},
        capture_output=True,
        text=True,
        check=False,
    )
    if formatted.returncode:
        log = Path(settings.logs_folder / "namenode-format.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(formatted.stdout + formatted.stderr)
        raise PlatformError(
            f"HDFS could not be formatted in {data}: see that this can be written, and read {log}"
        )


def _namenode_ready(settings: PlatformSettings, datanodes: int) -> str | None:
    """Whether the NameNode answers and, where DataNodes are asked for, has them and left safe mode."""
    query = "Hadoop:service=NameNode,name=FSNamesystemState"
    try:
        answer = ask("GET", f"{settings.url('namenode_http')}/jmx", params={"qry": query})
        answer.raise_for_status()
        beans = answer.json()["beans"]
    except (requests.RequestException, ValueError, KeyError) as error:
        return f"the NameNode does not answer yet ({type(error).__name__})"
    if not beans:
        return "the NameNode is loading its image"
    if beans[0]["NumLiveDataNodes"] < datanodes:
        return f"{beans[0]['NumLiveDataNodes']} of {datanodes} DataNodes are there"
    if datanodes and beans[0]["FSState"] != "Operational":
        return f"HDFS is in the state {beans[0]['FSState']}"
    return None


def _make_lake_folders(settings: PlatformSettings) -> None:
    """The lake's folders, owned by its user."""
    for folder in LAKE_FOLDERS:
        answer = ask(
            "PUT",
            f"{settings.url('namenode_http')}/webhdfs/v1{folder}",
            params={"op": "MKDIRS", "user.name": settings.hdfs_user, "permission": "755"},
            timeout=30,
        )
        if not answer.ok or not answer.json()["boolean"]:
            raise PlatformError(
                f"HDFS refused to make {folder} ({answer.status_code}): see 'make logs SERVICE=namenode'"
            )
