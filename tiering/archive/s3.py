"""A store that is a bucket of a service with the interface of Amazon S3.

Objects are written in parts, so that none is ever held whole; one that was not completed does not
exist. Source: Amazon S3 User Guide, "Uploading and copying objects using multipart upload".
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from datamgr.config_tier import S3Archive
from tiering.archive.store import CHUNK_BYTES, AbsentError, ArchiveError, Place, Store

_PART_BYTES = 16 << 20  # doubled every 2000 parts: 10 000 of them hold more than 5 TiB
_TRIES = 5

_Failure = (BotoCoreError, ClientError)


def open_store(place: S3Archive) -> "S3Store":
    """The bucket, which answers.

    Raises:
        ArchiveError: it does not, or is not there.
    """
    try:
        session = boto3.session.Session(profile_name=place.profile, region_name=place.region)
        client = session.client(
            "s3",
            endpoint_url=place.endpoint,
            config=Config(retries={"max_attempts": _TRIES, "mode": "standard"}),
        )
        client.head_bucket(Bucket=place.bucket)
    except (*_Failure, ValueError) as error:
        raise ArchiveError(f"the bucket {place.bucket} cannot be used: {_reason(error)}") from error
    return S3Store(client, place.bucket, place.prefix)


@dataclass(frozen=True)
class S3Store:
    """One object each, below a prefix."""

    client: Any
    bucket: str
    prefix: str

    @property
    def copies(self) -> tuple[Store, ...]:
        """As `Store.copies`."""
        return (self,)

    def create(self, key: str) -> "S3Draft":
        """As `Store.create`."""
        try:
            if self._find(key) is not None:
                raise ArchiveError(f"the bucket {self.bucket} has an object {key} already")
            begun = self.client.create_multipart_upload(Bucket=self.bucket, Key=self._name(key))
        except _Failure as error:
            raise self._failed("write", key, error) from error
        return S3Draft(self, key, begun["UploadId"])

    def read(self, key: str, offset: int, length: int, *, fresh: bool = False) -> Iterator[bytes]:
        """As `Store.read`; it goes on where a connection broke. No service has caches of ours."""
        tries = 0
        length = min(length, self.size(key) - offset)
        while length > 0:
            wanted = f"bytes={offset}-{offset + length - 1}"
            try:
                got = self.client.get_object(Bucket=self.bucket, Key=self._name(key), Range=wanted)
                with closing(got["Body"]) as body:
                    for data in body.iter_chunks(CHUNK_BYTES):
                        yield data
                        offset, length, tries = offset + len(data), length - len(data), 0
            except _Failure as error:
                tries += 1
                if tries == _TRIES:
                    raise self._failed("read", key, error) from error

    def size(self, key: str) -> int:
        """As `Store.size`."""
        try:
            found = self._find(key)
        except _Failure as error:
            raise self._failed("find", key, error) from error
        if found is None:
            raise AbsentError(f"the bucket {self.bucket} has no object {key}")
        return found

    def delete(self, key: str) -> None:
        """As `Store.delete`."""
        name = self._name(key)
        try:
            unfinished = self.client.list_multipart_uploads(Bucket=self.bucket, Prefix=name)
            for upload in unfinished.get("Uploads", ()):
                self._abort(upload["Key"], upload["UploadId"])
            self.client.delete_object(Bucket=self.bucket, Key=name)
        except _Failure as error:
            raise self._failed("delete", key, error) from error

    def keys(self) -> Iterator[str]:
        """As `Store.keys`."""
        try:
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix
            )
            for page in pages:
                for found in page.get("Contents", ()):
                    yield found["Key"].removeprefix(self.prefix)
        except _Failure as error:
            raise ArchiveError(
                f"the bucket {self.bucket} cannot be listed: {_reason(error)}"
            ) from error

    def places(self, keys: Collection[str]) -> Mapping[str, Place]:
        """As `Store.places`: services read in any order."""
        return {}

    def _find(self, key: str) -> int | None:
        try:
            found = self.client.head_object(Bucket=self.bucket, Key=self._name(key))
        except ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NotFound"):
                return None
            raise
        return int(found["ContentLength"])

    def _name(self, key: str) -> str:
        return self.prefix + key

    def _abort(self, name: str, upload: str) -> None:
        self.client.abort_multipart_upload(Bucket=self.bucket, Key=name, UploadId=upload)

    def _failed(self, action: str, key: str, error: Exception) -> ArchiveError:
        return ArchiveError(f"cannot {action} {key} in the bucket {self.bucket}: {_reason(error)}")


@dataclass
class S3Draft:
    """As `Draft`: an upload in parts."""

    store: S3Store
    key: str
    upload: str
    _parts: list[dict[str, Any]] = field(default_factory=list)
    _held: list[bytes] = field(default_factory=list)
    _held_bytes: int = 0
    _is_open: bool = True

    def write(self, data: bytes) -> None:
        """As `Draft.write`."""
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes >= _PART_BYTES << (len(self._parts) // 2000):
            self._send()

    def read_back(self) -> tuple[None]:
        """As `Draft.read_back`."""
        return (None,)

    def settle(self) -> None:
        """As `Draft.settle`: the service has all parts."""
        if self._held or not self._parts:
            self._send()

    def commit(self) -> None:
        """As `Draft.commit`: the service answers when it has the object."""
        self.settle()
        try:
            self.store.client.complete_multipart_upload(
                **self._where(), MultipartUpload={"Parts": self._parts}
            )
        except _Failure as error:
            raise self.store._failed("complete", self.key, error) from error
        self._is_open = False

    def abandon(self) -> None:
        """As `Draft.abandon`."""
        if self._is_open:
            self._is_open = False
            # A service that went away keeps it; `delete` removes it later.
            with suppress(*_Failure):
                self.store._abort(self.store._name(self.key), self.upload)

    def _send(self) -> None:
        number = len(self._parts) + 1
        try:
            sent = self.store.client.upload_part(
                **self._where(), PartNumber=number, Body=b"".join(self._held)
            )
        except _Failure as error:
            raise self.store._failed("write", self.key, error) from error
        self._parts.append({"PartNumber": number, "ETag": sent["ETag"]})
        self._held, self._held_bytes = [], 0

    def _where(self) -> dict[str, str]:
        store = self.store
        return {"Bucket": store.bucket, "Key": store._name(self.key), "UploadId": self.upload}


def _reason(error: Exception) -> str:
    if isinstance(error, ClientError):
        told = error.response.get("Error", {})
        return str(told.get("Message") or told.get("Code") or error)
    return str(error)
