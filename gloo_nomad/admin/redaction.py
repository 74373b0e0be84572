"""Takes secrets out of what is shown, by the type that holds them; a list of known secrets is the second net.

By type: everything in a Secret object but its name, everything inline in an Envoy Secret, the credentials in Settings
and AuthConfigs, headers that carry credentials, private keys wherever they stand, passwords in URLs.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from google.protobuf import any_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from gloo_nomad.admin.anys import pack_unknown, unpack
from gloo_nomad.admin.logs import REDACTED

M = TypeVar("M", bound=Message)

MIN_LENGTH: Final = 6
"""A shorter secret is not searched for in other texts: it would be found everywhere."""

SENSITIVE: Final[Mapping[str, frozenset[str]]] = {
    "gloo.solo.io.Settings.ConsulConfiguration": frozenset({"password", "token"}),
    "gloo.solo.io.Settings.VaultSecrets": frozenset({"token", "access_token"}),
    "gloo.solo.io.Settings.VaultAwsAuth": frozenset({"access_key_id", "secret_access_key", "session_token"}),
    "ai.options.gloo.solo.io.SingleAuthToken": frozenset({"inline"}),
    "ai.options.gloo.solo.io.UpstreamSpec.AWSInline": frozenset(
        {"access_key_id", "secret_access_key", "session_token"}
    ),
    "enterprise.gloo.solo.io.BasicAuth.Apr.SaltedHashedPassword": frozenset({"salt", "hashed_password"}),
    "enterprise.gloo.solo.io.BasicAuth.User": frozenset({"salt", "hashed_password"}),
    "enterprise.gloo.solo.io.OAuth": frozenset({"auth_endpoint_query_params"}),
    "enterprise.gloo.solo.io.OidcAuthorizationCode": frozenset(
        {"auth_endpoint_query_params", "token_endpoint_query_params"}
    ),
    "enterprise.gloo.solo.io.PlainOAuth2": frozenset({"auth_endpoint_query_params", "token_endpoint_query_params"}),
}
"""Fields that hold credentials outside of Secrets, by message."""

SECRET_MESSAGES: Final = frozenset(
    {
        "gloo.solo.io.AccountCredentialsSecret",
        "gloo.solo.io.AwsSecret",
        "gloo.solo.io.AzureSecret",
        "gloo.solo.io.EncryptionKeySecret",
        "gloo.solo.io.HeaderSecret",
        "gloo.solo.io.TlsSecret",
        "enterprise.gloo.solo.io.ApiKey",
        "enterprise.gloo.solo.io.OauthSecret",
    }
)
"""Messages that are a credential as a whole."""

_GLOO_SECRET: Final = "gloo.solo.io.Secret"  # noqa: S105  # the name of a message
_ENVOY_SECRET: Final = "envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105  # the same
_DATA_SOURCE: Final = "envoy.config.core.v3.DataSource"
_STRUCT: Final = "google.protobuf.Struct"
_ANY: Final = "google.protobuf.Any"
_INLINE: Final = ("inline_bytes", "inline_string")
_HEADERS: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-vault-token", "x-consul-token"}
)
_TELLING: Final = re.compile(
    r"(?i)(pass(word|wd)|secret(_?id)?|token|jwt|private_?key|(api|access)_?key(_?id)?|credential)s?$"
)
_URL_USER: Final = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s@]+@")
_PRIVATE_KEY: Final = "PRIVATE KEY--"


@dataclass(frozen=True, slots=True)
class Redactor:
    """Redacts copies of messages; the messages themselves are not touched."""

    known: tuple[str, ...] = ()
    """Values of secrets, the longest first; they are taken out wherever they appear."""

    @classmethod
    def knowing(cls, secrets: Iterable[Message]) -> "Redactor":
        """A redactor that also recognises the values of these Secret objects.

        Certificates are public, and private keys are recognised by their first line: those need no list.
        """
        values = {value for secret in secrets for value in _secret_values(secret)}
        return cls(tuple(sorted((value for value in values if len(value) >= MIN_LENGTH), key=len, reverse=True)))

    def redact(self, message: M) -> M:
        """A copy of the message without secrets."""
        copy = type(message)()
        copy.CopyFrom(message)
        self._walk(copy)
        return copy

    def text(self, value: str) -> str:
        """A text without private keys, passwords in URLs and known secrets."""
        if _PRIVATE_KEY in value:
            return REDACTED
        for secret in self.known:
            if secret in value:
                value = value.replace(secret, REDACTED)
        return _URL_USER.sub(rf"\1{REDACTED}@", value) if "@" in value else value

    def _walk(self, out: Any) -> None:
        name = out.DESCRIPTOR.full_name
        if name in SECRET_MESSAGES:
            _blank(out)
        elif name == _GLOO_SECRET:
            _blank_secret(out)
        elif name == _ENVOY_SECRET:
            _blank_inline(out)
        elif name == _ANY:
            self._walk_any(out)
        elif name == _STRUCT:
            self._walk_struct(out)
        else:
            self._walk_fields(out, SENSITIVE.get(name, frozenset()) | _header_value(out))

    def _walk_any(self, out: any_pb2.Any) -> None:
        inner = unpack(out)
        if inner is None:
            out.CopyFrom(pack_unknown(out))
            return
        self._walk(inner)
        out.value = inner.SerializeToString(deterministic=True)

    def _walk_struct(self, out: Any) -> None:
        for key, value in out.fields.items():
            if _TELLING.search(key) and value.WhichOneof("kind") == "string_value":
                value.string_value = REDACTED
            else:
                self._walk(value)

    def _walk_fields(self, out: Any, sensitive: frozenset[str]) -> None:
        for field, value in out.ListFields():
            if field.name in sensitive:
                _blank_field(field, value, out)
            elif field.message_type is not None:
                for child in _children(field, value):
                    self._walk(child)
                _change_texts(field, value, self.text)
            elif field.type in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}:
                self._clean(field, value, out)

    def _clean(self, field: Any, value: Any, out: Any) -> None:
        if field.is_repeated:
            value[:] = [self._clean_one(item) for item in value]
        else:
            cleaned = self._clean_one(value)
            if cleaned != value:
                setattr(out, field.name, cleaned)

    def _clean_one(self, value: str | bytes) -> str | bytes:
        if isinstance(value, str):
            return self.text(value)
        readable = value.decode("latin-1")
        return value if self.text(readable) == readable else REDACTED.encode()


def _header_value(message: Any) -> frozenset[str]:
    """The value fields of a message that is a header with credentials."""
    fields = message.DESCRIPTOR.fields_by_name
    if "key" not in fields or "value" not in fields or fields["key"].type != FieldDescriptor.TYPE_STRING:
        return frozenset()
    return frozenset({"value", "raw_value"}) if message.key.lower() in _HEADERS else frozenset()


def _children(field: Any, value: Any) -> Iterator[Any]:
    """The messages in a field."""
    if field.message_type.GetOptions().map_entry:
        if field.message_type.fields_by_name["value"].message_type is not None:
            yield from value.values()
    elif field.is_repeated:
        yield from value
    else:
        yield value


def _change_texts(field: Any, value: Any, change: Callable[[str], str]) -> None:
    """Changes the texts of a map from text to text."""
    if field.message_type.GetOptions().map_entry:
        held = field.message_type.fields_by_name["value"]
        if held.type == FieldDescriptor.TYPE_STRING:
            for key in value:
                value[key] = change(value[key])


def _blank(out: Any) -> None:
    """Replaces every text in a message, at any depth."""
    for field, value in out.ListFields():
        _blank_field(field, value, out)


def _blank_field(field: Any, value: Any, out: Any) -> None:
    if field.message_type is not None:
        _change_texts(field, value, lambda _: REDACTED)
        for child in _children(field, value):
            _blank(child)
    elif field.type == FieldDescriptor.TYPE_STRING:
        _put(field, value, out, REDACTED)
    elif field.type == FieldDescriptor.TYPE_BYTES:
        _put(field, value, out, REDACTED.encode())


def _put(field: Any, value: Any, out: Any, replacement: str | bytes) -> None:
    if field.is_repeated:
        value[:] = [replacement] * len(value)
    else:
        setattr(out, field.name, replacement)


def _blank_secret(out: Any) -> None:
    """A Secret object keeps its name and labels; annotations may repeat the whole object."""
    for field, value in out.ListFields():
        if field.name == "metadata":
            _change_texts(value.DESCRIPTOR.fields_by_name["annotations"], value.annotations, lambda _: REDACTED)
        else:
            _blank_field(field, value, out)


def _blank_inline(out: Any) -> None:
    """An Envoy Secret keeps names of files, not contents."""
    if out.DESCRIPTOR.full_name == _DATA_SOURCE:
        which = out.WhichOneof("specifier")
        if which in _INLINE:
            setattr(out, which, REDACTED.encode() if which == "inline_bytes" else REDACTED)
        return
    for field, value in out.ListFields():
        if field.message_type is not None:
            for child in _children(field, value):
                _blank_inline(child)


def _secret_values(secret: Message) -> Iterator[str]:
    """All texts in a Secret object but its metadata and certificates."""
    for field, value in secret.ListFields():
        if field.name not in {"metadata", "tls"}:
            yield from _texts(field, value)


def _texts(field: Any, value: Any) -> Iterator[str]:
    if field.message_type is not None:
        if field.message_type.GetOptions().map_entry:
            yield from (item for item in value.values() if isinstance(item, str))
        for child in _children(field, value):
            for inner, held in child.ListFields():
                yield from _texts(inner, held)
    elif field.type == FieldDescriptor.TYPE_STRING:
        yield from value if field.is_repeated else (value,)
    elif field.type == FieldDescriptor.TYPE_BYTES:
        yield from (item.decode("latin-1") for item in (value if field.is_repeated else (value,)))
