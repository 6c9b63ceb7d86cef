"""A receiver, a link that can be cut and slowed, and a writer whose file tells what it holds."""

import random
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np

from hdf5_tools import mirror
from tests.commands import DATAMGR

TOKEN = "0123456789abcdef0123456789abcdef"
PLACES = 5
VALUES = 30_000


def token_file(folder: Path) -> Path:
    path = folder / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return path


def certificate(folder: Path) -> tuple[str, ...]:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "1", "-subj",
         "/CN=receiver", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return "--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem")


class Receiver:
    """`datamgr hdf5 mirror serve`, which can be killed and started again at the same port."""

    def __init__(self, into: Path, token: Path, *options: str) -> None:
        into.mkdir(exist_ok=True)
        self.into = into
        self._token = token
        self._options = options
        self.port = self._heard = 0
        self.process = self.start()

    def start(self) -> subprocess.Popen[str]:
        with (self.into.parent / "receiver.log").open("a") as log:
            self.process = subprocess.Popen(
                [
                    *DATAMGR, "hdf5", "mirror", "serve", "--listen", f"127.0.0.1:{self.port}",
                    "--into", str(self.into), "--token-file", str(self._token), *self._options,
                ],
                stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        assert said.startswith("receiving at"), said
        self.port = int(said.split()[2].rpartition(":")[2])
        return self.process

    def new_log(self) -> str:
        """What it has said since this was last asked."""
        said = (self.into.parent / "receiver.log").read_text()[self._heard :]
        self._heard += len(said)
        return said

    def url(self, name: str, *, port: int | None = None, scheme: str = "h5m") -> str:
        return f"{scheme}://127.0.0.1:{port or self.port}/{name}"

    def end(self, *, kill: bool = False) -> None:
        (self.process.kill if kill else self.process.terminate)()
        self.process.wait(timeout=60)
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def receiving(folder: Path, *options: str) -> Iterator[Receiver]:
    receiver = Receiver(folder / "replicas", token_file(folder), *options)
    try:
        yield receiver
    finally:
        receiver.end()


class Wire:
    """A port that forwards to another one until it is cut; so many bytes a second at most.

    `tls`: contexts with which TLS is ended here and begun anew.
    """

    def __init__(
        self,
        to_port: int,
        bytes_per_s: float = 0,
        tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
    ) -> None:
        self._tls = tls
        self._to_port = to_port
        self.bytes_per_s = bytes_per_s
        self.forwarded = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._damage = 0
        self.is_down = False
        self.is_mute = False  # what the receiver says is lost
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection, without a word to either side about what was under way."""
        for end in list(self._open):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)

    def damage(self) -> None:
        """Change a byte of what comes next from the writer."""
        self._damage = 1

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self.is_down:
                    near.close()
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self._to_port))
                except OSError:
                    near.close()
                    continue
                if self._tls is not None:
                    near = self._tls[0].wrap_socket(near, server_side=True)
                    far = self._tls[1].wrap_socket(far)
                self._open |= {near, far}
                for one, other, is_up in ((near, far, True), (far, near, False)):
                    threading.Thread(
                        target=self._forward, args=(one, other, is_up), daemon=True
                    ).start()

    def _forward(self, one: socket.socket, other: socket.socket, is_up: bool) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                if is_up and self._damage and len(data) > 1000:
                    self._damage = 0
                    data = data[:500] + bytes([data[500] ^ 1]) + data[501:]
                if is_up and self.bytes_per_s:
                    time.sleep(len(data) / self.bytes_per_s)
                if is_up or not self.is_mute:
                    other.sendall(data)
                self.forwarded += len(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            self._open.discard(end)
            end.close()


def meddle(
    receiver: Receiver, wire: Wire, process: subprocess.Popen[str], chance: random.Random,
    times: int,
) -> None:  # fmt: skip
    """Cut, damage and slow the link and kill the receiver so often; then wait for the end."""
    for _ in range(times):
        with suppress(subprocess.TimeoutExpired):
            process.wait(chance.random() * 0.8)
        what = chance.choice(["cut", "cut", "damage", "slow", "kill", "stop"])
        if what == "cut":
            wire.cut()
        elif what == "damage":
            wire.damage()
        elif what == "slow":
            wire.bytes_per_s = 0 if wire.bytes_per_s else 4e6
        else:
            receiver.end(kill=what == "kill")
            time.sleep(chance.random() * 0.3)
            receiver.start()
    wire.bytes_per_s = 0
    process.wait(timeout=120)


def wait_until_settled(receiver: Receiver) -> None:
    """Until the receiver has noticed that no writer comes back."""
    said, deadline = "", time.monotonic() + 60
    while "is gone" not in said:
        assert time.monotonic() < deadline, said
        time.sleep(0.1)
        said += receiver.new_log()


def step(file: h5py.File, number: int) -> None:
    """Change the file so that everything in it follows from this number."""
    place = f"overwritten/{number % PLACES}"
    values = np.full(VALUES, number, np.int32)
    if place in file:
        file[place][...] = values
    else:
        file[place] = values
    name = f"made/{number % PLACES}"
    if name in file:
        del file[name]
    file[name] = np.arange(number, number + 1000 + number % 700)
    if "grown" not in file:
        file.create_dataset("grown", (0, 64), "i8", maxshape=(None, 64), chunks=(16, 64))
    file["grown"].resize(number + 1, axis=0)
    file["grown"][number] = number
    file[place].attrs["number"] = number
    file.attrs["number"] = number


def require_consistent(path: Path) -> int:
    """Everything in the file is as after one step; which one."""
    with h5py.File(path) as file:
        number = int(file.attrs["number"])
        assert (file["grown"][:, 0] == np.arange(number + 1)).all()
        for back in range(min(PLACES, number + 1)):
            of = number - back
            overwritten = file[f"overwritten/{of % PLACES}"]
            assert overwritten.attrs["number"] == of
            assert (overwritten[...] == of).all()
            assert file[f"made/{of % PLACES}"][0] == of
            assert len(file[f"made/{of % PLACES}"]) == 1000 + of % 700
        return number


def main(url: str, local: str, token: str, steps: int, seed: int, libver: str) -> None:
    """Write so many steps, and print the number of each that the receiver is known to have."""
    chance = random.Random(seed)
    with mirror.open(
        url, local, token_file=Path(token), buffer_bytes=1 << 22,
        when_slow=chance.choice(["block", "catch-up"]), libver=libver,
    ) as file:  # fmt: skip
        print("open", flush=True)
        for number in range(steps):
            step(file, number)
            if chance.random() < 0.5:
                file.flush()
            if chance.random() < 0.1:
                file.sync()
                print(number, flush=True)
    print("closed", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6])
