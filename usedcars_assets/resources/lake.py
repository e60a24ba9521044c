"""The lake through WebHDFS: small files, listings and checksums; tables go through Spark."""

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
import requests
from dagster import ConfigurableResource
from pydantic import Field, PrivateAttr
from requests.adapters import HTTPAdapter

from usedcars_assets.failures import UnavailableError


class _Strict(HTTPAdapter):
    """Adds what fsspec leaves out: a limit of time, and a look at how the DataNode answered a read.

    Without it a NameNode that hangs hangs the asset, and the text of an error is taken for the file.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        """Send with the limit; HTTPError when a DataNode could not read."""
        options["timeout"] = self._seconds
        response = super().send(request, **options)
        url = str(request.url)
        if "op=OPEN" in url and "namenoderpcaddress=" in url and not response.ok:
            raise requests.HTTPError(f"its DataNode answered {response.status_code}: {response.text}")
        return response


class Lake(ConfigurableResource[Any]):
    """The lake; every path is relative to its root, `cleaned/<batch>/…` for instance."""

    root_uri: str = Field(description="Root of the lake as Spark sees it, hdfs://host:port/usedcars.")
    webhdfs_url: str = Field(description="WebHDFS of the same file system.")
    user: str = Field(description="User name sent to HDFS.")
    timeout_seconds: float = Field(default=30, description="How long WebHDFS may take to answer.")
    _opened: Any = PrivateAttr(default=None)

    def uri(self, path: str) -> str:
        """The path as Spark takes it."""
        return f"{self.root_uri.rstrip('/')}/{path}"

    def entries(self, path: str) -> list[dict[str, Any]]:
        """What is in a folder: pathSuffix (the name), type, length, modificationTime in ms; [] if none."""
        with self._answering() as files:
            try:
                entries: list[dict[str, Any]] = files.ls(self._absolute(path), detail=True)
            except FileNotFoundError:
                return []
            return [entry for entry in entries if entry["pathSuffix"]]  # a file lists itself, without name

    def checksum(self, path: str) -> str:
        """The checksum that HDFS keeps of a file's content; FileNotFoundError if it is gone."""
        with self._answering() as files:
            answer = files.ukey(self._absolute(path))
            return f"{answer['algorithm']}:{answer['bytes']}"

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        with self._answering() as files:
            try:
                files.info(self._absolute(path))
            except FileNotFoundError:
                return False
            return True

    def read_json(self, path: str) -> Any | None:
        """The content of a JSON file; None if there is none or it is empty."""
        with self._answering() as files:
            try:
                content = files.cat_file(self._absolute(path))
            except FileNotFoundError:
                return None
            return json.loads(content) if content else None

    def write_json(self, path: str, content: Mapping[str, Any]) -> None:
        """Writes a JSON file, replacing a former one in one step."""
        with self._answering() as files:
            folder, _, name = self._absolute(path).rpartition("/")
            attempt = f"{folder}/.{name}.{uuid.uuid4().hex}"
            self._create(files, attempt, json.dumps(content, indent=1).encode())
            # fsspec's mv has no option to replace, and plain RENAME moves into an existing folder.
            files._call("RENAME", "put", attempt, destination=f"{folder}/{name}", renameoptions="OVERWRITE")

    def create_json(self, path: str, content: Mapping[str, Any]) -> bool:
        """Writes a JSON file unless there is one; of several writers exactly one is told True."""
        with self._answering() as files:
            try:
                self._create(files, self._absolute(path), json.dumps(content, indent=1).encode())
            except FileExistsError:
                return False
            return True

    def download(self, path: str, folder: Path) -> None:
        """Copies a folder of the lake to this machine, where `folder` must not exist."""
        with self._answering() as files:
            files.get(self._absolute(path), str(folder), recursive=True)

    def delete(self, path: str) -> None:
        """Deletes a file or folder, if there is one."""
        with self._answering() as files:
            files.rm(self._absolute(path), recursive=True)

    def _absolute(self, path: str) -> str:
        return f"{urlsplit(self.root_uri).path.rstrip('/')}/{path}".rstrip("/")

    def _create(self, files: Any, path: str, content: bytes) -> None:
        redirect = files._call("CREATE", "put", path, redirect=False, overwrite="false")
        answer = files.session.put(redirect.headers["Location"], data=content)
        if "FileAlreadyExistsException" in answer.text or "AlreadyBeingCreatedException" in answer.text:
            raise FileExistsError(path)
        answer.raise_for_status()

    @contextmanager
    def _answering(self) -> Iterator[Any]:
        if self._opened is None:
            address = urlsplit(self.webhdfs_url)
            files = fsspec.filesystem(
                "webhdfs",
                host=address.hostname,
                port=address.port,
                user=self.user,
                use_https=address.scheme == "https",
                skip_instance_cache=True,
            )
            for scheme in ("http://", "https://"):
                files.session.mount(scheme, _Strict(self.timeout_seconds))
            self._opened = files
        try:
            yield self._opened
        except (FileNotFoundError, FileExistsError):
            raise
        except (requests.RequestException, RuntimeError, PermissionError) as error:
            absent = isinstance(error, requests.ConnectionError | requests.Timeout)
            reason = "no connection" if absent else str(error).splitlines()[0][:200]
            raise UnavailableError(
                f"HDFS does not answer as it should at {self.webhdfs_url} ({reason}): "
                "see that NameNode and DataNode are up, then try again."
            ) from error
