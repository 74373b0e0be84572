"""Server reflection, asked of real gRPC servers: good ones, others, and those that mean harm."""

import asyncio
import itertools
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2

from gloo_nomad.acceptance.descriptors import descriptor_fault
from gloo_nomad.clients import grpc_reflection
from gloo_nomad.clients.address import NO_TLS, Address, Tls
from gloo_nomad.clients.grpc_reflection import MAX_FILES, MAX_SERVICES, Reflected, reflect
from gloo_nomad.clients.http import BadAnswerError, NotFoundError, TimedOutError, UnreachableError, WorldError
from gloo_nomad.demo.certificates import Authority
from tests.described_services import PETS, V1, V1ALPHA, Reflecting, build_files, serve_documents, serve_pets

Response = reflection_pb2.ServerReflectionResponse


def ask(port: int, tls: Tls | None = None) -> Reflected:
    """What a server on this machine says of itself."""
    address = Address("https" if tls else "http", "localhost" if tls else "127.0.0.1", port)
    return asyncio.run(reflect(address, tls or NO_TLS))


def services(*names: str) -> Any:
    """An answer with these services."""
    return Response(list_services_response={"service": [{"name": name} for name in names]})


def files(*found: Any) -> Any:
    """An answer with these files."""
    data = [file if isinstance(file, bytes) else file.SerializeToString() for file in found]
    return Response(file_descriptor_response={"file_descriptor_proto": data})


def file(name: str, *imports: str) -> Any:
    """A file without content."""
    return descriptor_pb2.FileDescriptorProto(name=name, dependency=imports)


@contextmanager
def scripted(first: Any, then: Callable[[Any], Any]) -> Iterator[Reflecting]:
    """A server that names services, and answers everything after that by a function."""

    def answer(request: Any) -> Any:
        return first if request.HasField("list_services") else then(request)

    with serve_pets(V1, answer=answer) as server:
        yield server


@pytest.mark.parametrize("versions", [(V1,), (V1ALPHA,), (V1, V1ALPHA)])
def test_services_and_descriptors(versions: tuple[str, ...]) -> None:
    """Both versions: the services without those for operators, and all files, imports first, the same every time."""
    with serve_pets(*versions) as server:
        found = ask(server.port)
        assert ask(server.port) == found
    names = [item.name for item in descriptor_pb2.FileDescriptorSet.FromString(found.descriptors).file]

    assert found.services == (PETS,)
    assert sorted(names) == [
        "google/api/annotations.proto",
        "google/api/http.proto",
        "google/protobuf/descriptor.proto",
        "pets/messages.proto",
        "pets/pets.proto",
    ]
    assert names[-1] == "pets/pets.proto"
    assert descriptor_fault(found.descriptors, found.services) == ""


def test_no_reflection() -> None:
    """A gRPC server without it says so, which is not the same as no answer."""
    with serve_pets() as server, pytest.raises(NotFoundError, match="UNIMPLEMENTED"):
        ask(server.port)


def test_no_server(free_port: Callable[[], int]) -> None:
    """Nobody there."""
    with pytest.raises(UnreachableError, match="UNAVAILABLE"):
        ask(free_port())


def test_another_protocol() -> None:
    """A server that speaks HTTP/1.1 only."""
    with serve_documents({}) as server, pytest.raises(WorldError):
        ask(server.port)


def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left after a while."""
    monkeypatch.setattr(grpc_reflection, "TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimedOutError, match=r"within 0\.5 s"):
        ask(silent.getsockname()[1])


def test_tls(tmp_path: Path) -> None:
    """With the authority of the server it is asked, without it is not."""
    authority = Authority()
    roots = tmp_path / "roots.pem"
    roots.write_text(authority.certificate)
    pair = authority.issue("localhost")
    credentials = grpc.ssl_server_credentials([(pair.private_key.encode(), pair.certificates.encode())])
    with serve_pets(V1, credentials=credentials) as server:
        assert ask(server.port, Tls(ca_file=str(roots))).services == (PETS,)
        with pytest.raises(WorldError):
            ask(server.port, Tls())
        with pytest.raises(UnreachableError):
            ask(server.port, Tls(ca_file=str(tmp_path / "missing.pem")))


def test_what_google_has_is_known() -> None:
    """A server that does not have the annotations that it imports is no problem."""
    with scripted(services(PETS), lambda request: files(*build_files()) if named(request) else Response()) as server:
        found = ask(server.port)

    assert descriptor_fault(found.descriptors, found.services) == ""


def named(request: Any) -> bool:
    """Whether a request is for a service."""
    return bool(request.HasField("file_containing_symbol"))


def endless() -> Callable[[Any], Any]:
    """Each file imports another one."""
    numbers = itertools.count(1)
    return lambda request: files(file(request.file_by_filename or "0", str(next(numbers))))


@pytest.mark.parametrize(
    ("first", "then", "text"),
    [
        (services("x"), lambda _: files(b"\xff\xff"), "no descriptor"),
        (services("x"), lambda _: files(file("a", "missing")), "lacks the file missing"),
        (services("x"), lambda _: files(file("a", "google/missing.proto")), "lacks the file google/missing.proto"),
        (services("x"), lambda _: files(file("a", "b"), file("b", "a")), "in a circle"),
        (services("x"), lambda _: files(file("a", "a")), "in a circle"),
        (services("x"), lambda _: files(*(file(str(number)) for number in range(MAX_FILES + 1))), "more than"),
        (services("x"), endless(), "more than"),
        (services(*map(str, range(MAX_SERVICES + 1))), lambda _: files(), f"more than {MAX_SERVICES} services"),
    ],
)
def test_answers_that_mean_harm(first: Any, then: Callable[[Any], Any], text: str) -> None:
    """Each ends with its reason, in time."""
    with scripted(first, then) as server, pytest.raises(BadAnswerError, match=text):
        ask(server.port)


def test_too_many_bytes() -> None:
    """An answer is refused before it is read."""
    huge = file("a")
    huge.package = "x" * (3 * 1024 * 1024)
    with (
        scripted(services("x"), lambda _: files(huge)) as server,
        pytest.raises(BadAnswerError, match="larger than max"),
    ):
        ask(server.port)


def test_services_without_descriptors() -> None:
    """What has no descriptor is among the services, and for the caller to leave out."""
    error = Response(error_response={"error_code": 5, "error_message": "not found"})
    with scripted(services("a.B", ""), lambda _: error) as server:
        assert ask(server.port) == Reflected(("", "a.B"), b"")


def test_a_server_that_breaks_off() -> None:
    """A defect of the server is its own."""

    def fail(_request: Any) -> Any:
        raise ValueError("defect")

    with scripted(services("x"), fail) as server, pytest.raises(WorldError):
        ask(server.port)
