"""A file and its replica: the same at the end, and who may have one."""

import os
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from datamgr.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    UnavailableError,
)
from hdf5_tools import mirror
from hdf5_tools.mirror import listener
from hdf5_tools.mirror.address import Address
from tests import mounts
from tests.commands import call
from tests.integration.hdf5_tools import mirroring
from tests.integration.hdf5_tools.mirroring import Receiver, Wire, receiving


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with receiving(tmp_path, "--grace", "2s") as receiver:
        yield receiver


def same(local: Path, replica: Path) -> bool:
    return local.read_bytes() == replica.read_bytes()


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("when_slow", ["block", "catch-up"])
def test_a_replica_is_the_same_bit_for_bit(
    receiver: Receiver, tmp_path: Path, libver: str, when_slow: str
) -> None:
    local = tmp_path / "a.h5"
    with mirror.open(
        receiver.url("run/a.h5"), local, token_file=tmp_path / "token", libver=libver,
        when_slow=when_slow, buffer_bytes=1 << 22,
    ) as file:  # fmt: skip
        assert file.filename == str(local)
        for number in range(30):
            mirroring.step(file, number)
        file["large"] = np.random.default_rng(1).random((2000, 2000))
        assert not (receiver.into / "run/a.h5").exists()
    assert same(local, receiver.into / "run/a.h5")
    assert not (receiver.into / "run/a.h5.incomplete").exists()
    assert mirroring.require_consistent(receiver.into / "run/a.h5") == 29


def test_a_file_is_gone_on_with(receiver: Receiver, tmp_path: Path) -> None:
    local = tmp_path / "a.h5"
    options = {"token_file": tmp_path / "token"}
    with mirror.open(receiver.url("a.h5"), local, **options) as file:
        mirroring.step(file, 0)
    with mirror.open(receiver.url("a.h5"), local, "r+", **options) as file:
        mirroring.step(file, 1)
    assert same(local, receiver.into / "a.h5")
    assert mirroring.require_consistent(receiver.into / "a.h5") == 1
    # What nobody mirrored is sent afterwards, and the earlier replica stays until then.
    with h5py.File(local, "r+") as file:
        mirroring.step(file, 2)
    with mirror.open(receiver.url("a.h5"), local, "a", **options) as file:
        assert mirroring.require_consistent(receiver.into / "a.h5") == 1
        mirroring.step(file, 3)
    assert same(local, receiver.into / "a.h5")


def test_what_is_synchronised_is_there_before_the_end(receiver: Receiver, tmp_path: Path) -> None:
    """The file as it is between two flushes is not; it is taken back to the last one."""
    with mirror.open(
        receiver.url("a.h5"), tmp_path / "a.h5", token_file=tmp_path / "token"
    ) as file:
        mirroring.step(file, 0)
        file.sync()
        assert mirroring.require_consistent(receiver.into / "a.h5.incomplete") == 0


NAMES = {
    "../a.h5": ForbiddenError,
    "sub/../../a.h5": ForbiddenError,
    "/etc/a.h5": ForbiddenError,
    "link/a.h5": ForbiddenError,
    "linked.h5": ForbiddenError,
    "folder": ForbiddenError,
    ".h5mirror/a.h5": ForbiddenError,
    "a.h5.incomplete": ForbiddenError,
    "a%00.h5": InvalidError,
    "x" * 300: InvalidError,
    "a/" * 600 + "a": InvalidError,
    "a//b": InvalidError,
}


def test_names_lead_nowhere_else(receiver: Receiver, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept.h5").write_bytes(b"kept")
    (receiver.into / "link").symlink_to(outside)
    (receiver.into / "linked.h5").symlink_to(outside / "kept.h5")
    (receiver.into / "folder").mkdir()
    before = set(os.listdir(receiver.into))
    for name, error in NAMES.items():
        with pytest.raises(error):
            mirror.open(receiver.url(name), tmp_path / "a.h5", token_file=tmp_path / "token")
        assert (outside / "kept.h5").read_bytes() == b"kept", name
        assert os.listdir(outside) == ["kept.h5"], name
        assert receiver.process.poll() is None, name
    assert set(os.listdir(receiver.into)) - before <= {"sub"}


def test_links_that_appear_meanwhile_are_not_followed(receiver: Receiver, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(b"kept")
    file = mirror.open(receiver.url("a.h5"), tmp_path / "a.h5", token_file=tmp_path / "token")
    mirroring.step(file, 0)
    (receiver.into / "a.h5").symlink_to(kept)
    with pytest.raises(ForbiddenError, match="no regular file"):
        file.close()
    assert kept.read_bytes() == b"kept"
    assert mirroring.require_consistent(tmp_path / "a.h5") == 0


def test_names_of_any_bytes(receiver: Receiver, tmp_path: Path) -> None:
    with mirror.open(
        receiver.url("%ff%0a%20.h5"), tmp_path / "a.h5", token_file=tmp_path / "token"
    ) as file:
        file["x"] = 1
    assert (receiver.into / os.fsdecode(b"\xff\n .h5")).exists()


def test_only_with_the_token(receiver: Receiver, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("f" * 32)
    wrong.chmod(0o600)
    local = tmp_path / "a.h5"
    local.write_bytes(b"from before")
    with pytest.raises(ForbiddenError, match="token"):
        mirror.open(receiver.url("a.h5"), local, token_file=wrong)
    assert re.search(
        r"a connection from 127\.0\.0\.1 port \d+ ended: the token is not", receiver.new_log()
    )
    with pytest.raises(ForbiddenError, match="asks for a token"):
        mirror.open(receiver.url("a.h5"), local)
    assert local.read_bytes() == b"from before"
    assert os.listdir(receiver.into) == [".h5mirror"]
    wrong.chmod(0o644)
    with pytest.raises(ForbiddenError, match="everybody"):
        mirror.open(receiver.url("a.h5"), local, token_file=wrong)


def test_whoever_asks_for_no_token_gets_no_data(tmp_path: Path) -> None:
    """Somebody else on the receiver's port does not know the token, and so would ask for none."""
    address = f"unix:{tmp_path / 'socket'}"
    into = tmp_path / "replicas"
    into.mkdir()
    process = subprocess.Popen(
        [*mirroring.DATAMGR, "hdf5", "mirror", "serve", "--listen", address, "--into", into],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        process.stdout.readline()
        url = f"h5m+{address}?a.h5"
        with pytest.raises(ForbiddenError, match="asks for no token"):
            mirror.open(url, tmp_path / "a.h5", token_file=mirroring.token_file(tmp_path))
        with mirror.open(url, tmp_path / "a.h5") as file:
            file["x"] = 1
        assert same(tmp_path / "a.h5", into / "a.h5")
        assert (tmp_path / "socket").stat().st_mode & 0o077 == 0
    finally:
        process.terminate()
        process.communicate()
    assert not (tmp_path / "socket").exists()


def test_over_tls(tmp_path: Path) -> None:
    with receiving(tmp_path, *mirroring.certificate(tmp_path)) as receiver:
        url = receiver.url("a.h5", scheme="h5ms")
        options = {"token_file": tmp_path / "token"}
        with mirror.open(url, tmp_path / "a.h5", **options) as file:
            for number in range(20):
                mirroring.step(file, number)
            file["large"] = np.random.default_rng(1).random((1000, 2000))
        assert same(tmp_path / "a.h5", receiver.into / "a.h5")
        with pytest.raises(UnavailableError):
            mirror.open(receiver.url("b.h5"), tmp_path / "b.h5", **options)
    with (
        receiving(tmp_path) as receiver,
        pytest.raises(UnavailableError),
    ):
        mirror.open(receiver.url("b.h5", scheme="h5ms"), tmp_path / "b.h5", **options)


def test_another_certificate_in_between_is_noticed(tmp_path: Path) -> None:
    """Somebody who ends TLS on the way has to show another certificate than the receiver's."""
    (tmp_path / "evil").mkdir()
    options = mirroring.certificate(tmp_path)
    mirroring.certificate(tmp_path / "evil")
    near, far = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    near.load_cert_chain(tmp_path / "evil/cert.pem", tmp_path / "evil/key.pem")
    far.check_hostname, far.verify_mode = False, ssl.CERT_NONE
    with receiving(tmp_path, *options) as receiver:
        wire = Wire(receiver.port, tls=(near, far))
        with pytest.raises(ForbiddenError, match="token"):
            mirror.open(
                receiver.url("a.h5", port=wire.port, scheme="h5ms"), tmp_path / "a.h5",
                token_file=tmp_path / "token",
            )  # fmt: skip
        wire.close()


def test_one_writer_at_a_time(receiver: Receiver, tmp_path: Path) -> None:
    options = {"token_file": tmp_path / "token"}
    with mirror.open(receiver.url("a.h5"), tmp_path / "a.h5", **options) as file:
        mirroring.step(file, 0)
        with pytest.raises(ConflictError, match="another writer"):
            mirror.open(receiver.url("a.h5"), tmp_path / "b.h5", **options)
        with pytest.raises(ConflictError, match="another program"):
            mirror.open(receiver.url("b.h5"), tmp_path / "a.h5", **options)
        mirroring.step(file, 1)
    assert same(tmp_path / "a.h5", receiver.into / "a.h5")


def test_one_receiver_at_a_time(receiver: Receiver, capfd: pytest.CaptureFixture[str]) -> None:
    second = call(
        capfd, "hdf5", "mirror", "serve", "--listen", f"unix:{receiver.into}/s", "--into",
        receiver.into,
    )  # fmt: skip
    assert (second.exit_code, "another receiver" in second.stderr) == (6, True)


def test_garbage_harms_nothing(receiver: Receiver, tmp_path: Path) -> None:
    hello = b"h5m1\x02\0\0\0" + (1 << 30).to_bytes(4, "little") + b"\0" * 24
    for garbage in (b"GET / HTTP/1.0\r\n\r\n", os.urandom(100_000), b"h5m1" + b"\xff" * 60, hello):
        with socket.create_connection(("127.0.0.1", receiver.port), 5) as connection:
            connection.sendall(garbage)
            connection.settimeout(5)
            try:
                while connection.recv(1 << 16):
                    pass
            except ConnectionError:
                pass
    silent = [socket.create_connection(("127.0.0.1", receiver.port), 5) for _ in range(150)]
    with mirror.open(
        receiver.url("a.h5"), tmp_path / "a.h5", token_file=tmp_path / "token"
    ) as file:
        mirroring.step(file, 0)
    assert same(tmp_path / "a.h5", receiver.into / "a.h5")
    for connection in silent:
        connection.close()


def test_damage_on_the_way_is_noticed_and_sent_again(receiver: Receiver, tmp_path: Path) -> None:
    wire = Wire(receiver.port)
    try:
        with mirror.open(
            receiver.url("a.h5", port=wire.port), tmp_path / "a.h5",
            token_file=tmp_path / "token",
        ) as file:  # fmt: skip
            for number in range(20):
                if number % 5 == 2:
                    wire.damage()
                mirroring.step(file, number)
                file.flush()
    finally:
        wire.close()
    assert same(tmp_path / "a.h5", receiver.into / "a.h5")
    assert "damaged on the way" in (tmp_path / "receiver.log").read_text()


@pytest.mark.root
def test_a_full_disk_at_the_receiver(tmp_path: Path) -> None:
    """The local file is whole; the replica is as at its last flush, and completed later."""
    with mounts.tmpfs(tmp_path / "replicas", 6 << 20), receiving(tmp_path) as receiver:
        options = {"token_file": tmp_path / "token", "patience_s": 2.0}
        ballast = receiver.into / "ballast"
        ballast.write_bytes(bytes(3 << 20))
        file = mirror.open(receiver.url("a.h5"), tmp_path / "a.h5", **options)
        mirroring.step(file, 0)
        file.sync()
        for number in range(1, 5):
            file[f"large{number}"] = np.random.default_rng(1).random(100_000)
        mirroring.step(file, 1)
        with pytest.raises(UnavailableError, match="no space left"):
            file.close()
        assert mirroring.require_consistent(tmp_path / "a.h5") == 1
        assert mirroring.require_consistent(receiver.into / "a.h5.incomplete") in (0, 1)
        assert not (receiver.into / "a.h5").exists()
        ballast.unlink()
        with mirror.open(receiver.url("a.h5"), tmp_path / "a.h5", "r+", **options) as file:
            mirroring.step(file, 2)
        assert same(tmp_path / "a.h5", receiver.into / "a.h5")


@pytest.mark.root
def test_a_full_disk_at_the_writer(receiver: Receiver, tmp_path: Path) -> None:
    with mounts.tmpfs(tmp_path / "small", 2 << 20) as small:
        file = mirror.open(
            receiver.url("a.h5"), small / "a.h5", token_file=tmp_path / "token", patience_s=5.0
        )
        mirroring.step(file, 0)
        file.sync()
        with pytest.raises(OSError, match="No space left"):
            for number in range(1, 100):
                file[f"large{number}"] = np.zeros(50_000)
        (small / "ballast").unlink(missing_ok=True)
        try:
            file.close()
        except (OSError, RuntimeError):
            time.sleep(4)  # the grace of the receiver
            assert not (receiver.into / "a.h5").exists()
            assert mirroring.require_consistent(receiver.into / "a.h5.incomplete") == 0
        else:
            assert same(small / "a.h5", receiver.into / "a.h5")


def test_verify_names_what_differs(
    receiver: Receiver, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    local, url = tmp_path / "a.h5", receiver.url("a.h5")
    token = ("--token-file", tmp_path / "token")
    with mirror.open(url, local, token_file=tmp_path / "token") as file:
        file["first"] = np.arange(300_000)
        file["second"] = np.arange(300_000)
        at = file["second"].id.get_offset()
        running = call(capfd, "hdf5", "mirror", "send", local, url, *token)
        assert running.exit_code == 6
    assert call(capfd, "hdf5", "mirror", "verify", local, url, *token, "--json").json["rows"] == []
    with (receiver.into / "a.h5").open("r+b") as replica:
        replica.seek(at + 2_000_000)
        replica.write(b"XX")
    found = call(capfd, "hdf5", "mirror", "verify", local, url, *token, "--json")
    assert found.exit_code == 6
    assert '"datasets": ["second"]' in found.stdout
    assert call(capfd, "hdf5", "mirror", "send", local, url, *token).exit_code == 0
    assert same(local, receiver.into / "a.h5")
    gone = call(capfd, "hdf5", "mirror", "verify", local, receiver.url("none.h5"), *token)
    assert (gone.exit_code, gone.stderr) == (3, "datamgr: there is no none.h5\n")
    os.mkfifo(tmp_path / "pipe")
    for odd in (tmp_path, tmp_path / "pipe"):
        for what in ("verify", "send"):
            done = call(capfd, "hdf5", "mirror", what, odd, url, *token)
            assert (done.exit_code, done.stderr) == (4, f"datamgr: {odd} is no regular file\n")


def test_a_file_in_the_place_of_a_socket_is_left_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "run42.h5"
    mine.write_bytes(b"mine")
    done = call(capfd, "hdf5", "mirror", "serve", "--listen", f"unix:{mine}", "--into", tmp_path)
    assert (done.exit_code, "that is no socket" in done.stderr) == (6, True)
    assert mine.read_bytes() == b"mine"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left"))
    with listener.listen(Address(path=str(tmp_path / "left"))):
        pass  # by a receiver that was killed


def test_what_cannot_be_is_said(receiver: Receiver, tmp_path: Path) -> None:
    options = {"token_file": tmp_path / "token"}
    for url in ("http://a/b", "h5m://nowhere/b", "h5m://a:1/", "h5m://a:99999/b", "h5m+unix:/x"):
        with pytest.raises(InvalidError):
            mirror.open(url, tmp_path / "a.h5", **options)
    with pytest.raises(InvalidError, match="mode"):
        mirror.open(receiver.url("a.h5"), tmp_path / "a.h5", "r", **options)
    with pytest.raises(UnavailableError, match="no receiver"):
        mirror.open("h5m://127.0.0.1:1/a.h5", tmp_path / "a.h5", "x", **options)
    assert not (tmp_path / "a.h5").exists()
    with mirror.open(receiver.url("a.h5"), tmp_path / "a.h5", libver="latest", **options) as file:
        with pytest.raises(InvalidError, match=r"mirror\.stream"):
            file.swmr_mode = True
        assert not file.swmr_mode
