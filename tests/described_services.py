"""Services that say what they offer: a gRPC server with reflection, and an HTTP server with OpenAPI documents."""

import ssl
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import grpc
from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha import reflection, reflection_pb2

from gloo_nomad.demo.certificates import KeyPair
from tests.http_servers import serving_http

V1, V1ALPHA = "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"
PETS = "pets.Pets"
Answer = Callable[[Any], Any]
"""Makes the answer to a reflection request."""


def build_files() -> list[Any]:
    """Two proto files, one of which imports the other and the annotations of Google."""
    text = {"type": descriptor_pb2.FieldDescriptorProto.TYPE_STRING, "label": 1}
    messages = descriptor_pb2.FileDescriptorProto(name="pets/messages.proto", package="pets", syntax="proto3")
    for name, fields in (("PetName", ("name",)), ("Pet", ("name", "sound"))):
        message = messages.message_type.add(name=name)
        for number, field_name in enumerate(fields, 1):
            message.field.add(name=field_name, json_name=field_name, number=number, **text)
    service = descriptor_pb2.FileDescriptorProto(name="pets/pets.proto", package="pets", syntax="proto3")
    service.dependency.extend(["pets/messages.proto", "google/api/annotations.proto"])
    method = service.service.add(name="Pets").method.add(
        name="Get", input_type=".pets.PetName", output_type=".pets.Pet"
    )
    method.options.Extensions[annotations_pb2.http].CopyFrom(http_pb2.HttpRule(get="/pets/{name}"))
    return [messages, service]


def build_pool() -> descriptor_pool.DescriptorPool:
    """The files with everything that they import."""
    pool = descriptor_pool.DescriptorPool()
    for imported in ("google/protobuf/descriptor.proto", "google/api/http.proto", "google/api/annotations.proto"):
        pool.AddSerializedFile(descriptor_pool.Default().FindFileByName(imported).serialized_pb)
    for file in build_files():
        pool.Add(file)
    return pool


@dataclass
class Reflecting:
    """A running gRPC server."""

    port: int
    asked: list[str] = field(default_factory=list)
    """The kinds of the reflection requests that it got."""
    called: list[str] = field(default_factory=list)
    """The names of the pets that it was asked for."""


@contextmanager
def serve_pets(
    *versions: str, port: int = 0, answer: Answer | None = None, credentials: Any = None
) -> Iterator[Reflecting]:
    """A gRPC server with the service ``pets.Pets``, and reflection of these versions, answered by *answer* if given."""
    pool = build_pool()
    servicer: Any = reflection.ReflectionServicer((PETS, *versions), pool)
    server = grpc.server(ThreadPoolExecutor(4))
    found = Reflecting(0)

    def reflect(requests: Iterator[Any], context: Any) -> Iterator[Any]:
        for request in requests:
            found.asked.append(request.WhichOneof("message_request"))
            yield answer(request) if answer else next(servicer.ServerReflectionInfo(iter([request]), context))

    def get(request: Any, _context: Any) -> Any:
        found.called.append(request.name)
        return _message(pool, "pets.Pet")(name=request.name, sound="meow")

    handlers = {PETS: {"Get": grpc.unary_unary_rpc_method_handler(get, *_codecs(_message(pool, "pets.PetName")))}}
    for version in versions:
        handler = grpc.stream_stream_rpc_method_handler(reflect, *_codecs(reflection_pb2.ServerReflectionRequest))
        handlers[version] = {"ServerReflectionInfo": handler}
    for name, methods in handlers.items():
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))
    address = f"127.0.0.1:{port}"
    found.port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    try:
        yield found
    finally:
        server.stop(None).wait()


def _message(pool: descriptor_pool.DescriptorPool, name: str) -> Any:
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def _codecs(request: Any) -> tuple[Any, Any]:
    return request.FromString, lambda answer: answer.SerializeToString()


@dataclass
class Documents:
    """A running HTTP server: what it answers by path, and what it was asked."""

    port: int = 0
    pages: dict[str, bytes | tuple[int, Mapping[str, str], bytes]] = field(default_factory=dict)
    """A body, or status, headers and body. Everything else is 404."""
    meanwhile: Callable[[], None] = lambda: None
    """What happens while a request waits for its answer."""
    asked: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    """Path and headers of each request."""

    @property
    def paths(self) -> list[str]:
        """The paths that it was asked for."""
        return [path for path, _ in self.asked]


@contextmanager
def serve_documents(pages: Mapping[str, Any], port: int = 0, pair: KeyPair | None = None) -> Iterator[Documents]:
    """An HTTP server with these pages, over TLS if it gets a certificate."""
    documents = Documents(pages=dict(pages))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            documents.asked.append((self.path, dict(self.headers)))
            documents.meanwhile()
            page = documents.pages.get(self.path, (404, {}, b"nothing here"))
            status, headers, body = (200, {}, page) if isinstance(page, bytes) else page
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name of the library
            """Says nothing."""

    with serving_http(Handler, port, _server_context(pair) if pair else None) as documents.port:
        yield documents


def _server_context(pair: KeyPair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(f"{pair.certificates}{pair.private_key}".encode())
        file.flush()
        context.load_cert_chain(file.name)
    return context
