"""One POST to a receiver: what counts as delivered, and how failures are reported."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from api.webhooks.sender import DeliveryFailed, Sender

TIMEOUT_S = 60.0  # a test that waits longer has failed
Talk = Callable[[socket.socket, bytes], None]


class Receiver:
    """A server for one connection: reads a whole request, then sends what the test wants."""

    def __init__(self, talk: Talk, *, reads: bool = True) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/hook?a=b"
        self.request = b""
        self.is_done = threading.Event()
        self._talk = talk
        self._reads = reads
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_done.set()
        with suppress(OSError):  # it waits for a connection that never came
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._thread.join(TIMEOUT_S)
        self._listener.close()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, suppress(OSError):
            while self._reads and not self.request.endswith(b"the body") and (chunk := connection.recv(65536)):
                self.request += chunk
            if self.request or not self._reads:
                self._talk(connection, self.request)


def say(*parts: bytes) -> Talk:
    return lambda connection, _: [connection.sendall(part) for part in parts] and None


@pytest.fixture
def sender() -> Sender:
    return Sender(allow_private=True, timeout_s=TIMEOUT_S)


def post(sender: Sender, url: str) -> None:
    sender.post(url, {"webhook-id": "msg_1", "Content-Type": "application/json"}, b"the body")


@pytest.mark.parametrize("status", [b"200 OK", b"204 No Content", b"299 Fine"])
def test_any_2xx_is_a_delivery_whatever_its_body(sender: Sender, status: bytes) -> None:
    with Receiver(say(b"HTTP/1.1 " + status + b"\r\nContent-Length: 1000000\r\n\r\nno more comes")) as receiver:
        post(sender, receiver.url)
    head, _, body = receiver.request.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /hook?a=b HTTP/1.1"
    assert f"Host: 127.0.0.1:{receiver.port}".encode() in lines
    assert {b"webhook-id: msg_1", b"Content-Length: 8", b"Connection: close"} <= set(lines)
    assert body == b"the body"


@pytest.mark.parametrize("status", [b"301 Moved", b"307 Temporary", b"400 Bad", b"404 No", b"410 Gone", b"500 Oops"])
def test_any_other_status_is_a_failure_and_a_redirect_is_not_followed(sender: Sender, status: bytes) -> None:
    with (
        Receiver(say(b"HTTP/1.1 204 OK\r\n\r\n")) as elsewhere,
        Receiver(say(b"HTTP/1.1 " + status + b"\r\nLocation: " + elsewhere.url.encode() + b"\r\n\r\n")) as receiver,
    ):
        with pytest.raises(DeliveryFailed, match=f"answered with status {status[:3].decode()}") as failed:
            post(sender, receiver.url)
        assert not failed.value.is_final
    assert elsewhere.request == b""


@pytest.mark.parametrize(
    "talk",
    [
        say(b""),
        say(b"SSH-2.0-OpenSSH\r\n\r\n"),
        say(b"HTTP/1.1 abc\r\n\r\n"),
        say(b"HTTP/1.1 200 OK\r\n", b"x" * 70_000),
    ],
    ids=["hangs up", "not a web server", "no status", "endless header"],
)
def test_an_answer_that_is_not_http_is_a_failure(sender: Sender, talk: Talk) -> None:
    with Receiver(talk) as receiver, pytest.raises(DeliveryFailed):
        post(sender, receiver.url)


def test_a_refused_connection_is_a_failure(sender: Sender) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(DeliveryFailed, match="ConnectionRefusedError"):
        post(sender, f"http://127.0.0.1:{port}/")


def test_an_unknown_name_is_a_temporary_failure(sender: Sender) -> None:
    with pytest.raises(DeliveryFailed, match="gaierror") as failed:
        post(sender, "http://no-such-host.invalid/")
    assert not failed.value.is_final


def test_a_slow_receiver_is_cut_off() -> None:
    """Each byte arrives long before a socket's timeout."""
    receiver: Receiver

    def drip(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not receiver.is_done.wait(0.01):
            connection.sendall(b"x")

    with Receiver(drip) as receiver, pytest.raises(DeliveryFailed, match=r"no answer within 0\.3 s"):
        post(Sender(allow_private=True, timeout_s=0.3), receiver.url)


def test_a_silent_receiver_is_cut_off() -> None:
    receiver: Receiver
    with (
        Receiver(lambda *_: receiver.is_done.wait(TIMEOUT_S) and None) as receiver,
        pytest.raises(DeliveryFailed, match=r"no answer within 0\.3 s"),
    ):
        post(Sender(allow_private=True, timeout_s=0.3), receiver.url)


# -- where it may go ---------------------------------------------------------------------------------------------------


@contextmanager
def names(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> Iterator[list[str]]:
    """A resolver with one answer per query; yields the requested names."""
    asked: list[str] = []
    left = list(answers)

    def resolve(host: str, _timeout_s: float) -> list[str]:
        asked.append(host)
        return left.pop(0)

    with monkeypatch.context() as patch:
        patch.setattr("api.webhooks.sender.resolve", resolve)
        yield asked


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::ffff:127.0.0.1"]])
def test_a_name_with_a_private_address_is_refused_permanently(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    with Receiver(say(b"HTTP/1.1 204 OK\r\n\r\n")) as receiver, names(monkeypatch, addresses):
        with pytest.raises(DeliveryFailed, match=r"hooks\.example\.org has a private address") as failed:
            post(Sender(allow_private=False), f"http://hooks.example.org:{receiver.port}/")
        assert failed.value.is_final
    assert receiver.request == b""


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch, sender: Sender) -> None:
    """A name that changes its address between two look-ups (DNS rebinding) gets one."""
    with (
        Receiver(say(b"HTTP/1.1 204 OK\r\n\r\n")) as receiver,
        names(monkeypatch, ["127.0.0.1"], ["10.255.255.1"]) as asked,
    ):
        post(sender, f"http://hooks.example.org:{receiver.port}/")
    assert asked == ["hooks.example.org"]
    assert f"Host: hooks.example.org:{receiver.port}".encode() in receiver.request


def test_the_next_address_is_tried_if_one_refuses_the_connection(
    monkeypatch: pytest.MonkeyPatch, sender: Sender
) -> None:
    with (
        Receiver(say(b"HTTP/1.1 204 OK\r\n\r\n")) as receiver,
        names(monkeypatch, ["127.0.0.2", "127.0.0.1"]),
    ):
        post(sender, f"http://hooks.example.org:{receiver.port}/")
    assert receiver.request.endswith(b"the body")


def test_tls_checks_the_name_and_trusts_no_unknown_certificate(monkeypatch: pytest.MonkeyPatch, sender: Sender) -> None:
    hello = []

    def listen(connection: socket.socket, _: bytes) -> None:
        hello.append(connection.recv(65536))

    with (
        Receiver(listen, reads=False) as receiver,
        names(monkeypatch, ["127.0.0.1"]),
        pytest.raises(DeliveryFailed),
    ):
        post(sender, f"https://hooks.example.org:{receiver.port}/")
    assert hello[0][0] == 0x16  # a TLS handshake
    assert b"hooks.example.org" in hello[0]
    assert sender._tls.check_hostname
