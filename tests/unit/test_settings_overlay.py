"""The Settings object of Consul KV, laid over the file: what it changes, what it cannot, and what refuses it."""

from typing import Any

import pytest
from google.protobuf import json_format

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.app.clients import check_clients
from gloo_nomad.app.live_settings import LiveSettings
from gloo_nomad.reports import Severity
from gloo_nomad.settings import RuntimeSettings

FILE: dict[str, Any] = {
    "metadata": {"name": "default", "namespace": "gloo-system"},
    "consulKvSource": {"rootKey": "gloo"},
    "consul": {"httpAddress": "file:1", "token": "file"},
    "watchNamespaces": ["a", "b"],
    "gloo": {
        "xdsBindAddr": "0.0.0.0:1",
        "removeUnusedFilters": True,
        "invalidConfigPolicy": {"invalidRouteResponseCode": 404, "invalidRouteResponseBody": "gone"},
    },
    "upstreamOptions": {"globalAnnotations": {"kept": "1", "changed": "1"}},
    "extensions": {"configs": {"gloo-nomad": {"createDefaultGateways": True, "adminBindAddr": "127.0.0.1:9"}}},
    "refreshRate": "10s",
}


def message(document: dict[str, Any]) -> settings_pb2.Settings:
    """A Settings message."""
    return json_format.ParseDict(document, settings_pb2.Settings())


def laid_over(top: dict[str, Any]) -> dict[str, Any]:
    """The file with an object on top, as a document."""
    base = RuntimeSettings(message(FILE), Ref("gloo-system", "default"))
    found: dict[str, Any] = json_format.MessageToDict(base.overlaid(message(top)).message)
    return found


def test_nothing_on_top() -> None:
    """Without an object the settings are the same ones."""
    base = RuntimeSettings(message(FILE), Ref("gloo-system", "default"))

    assert base.overlaid(None) is base


def test_messages_field_by_field() -> None:
    """A field inside a message is replaced alone, its neighbours stay."""
    merged = laid_over({"gloo": {"invalidConfigPolicy": {"invalidRouteResponseBody": "changed"}}})

    assert merged["gloo"] == {
        **FILE["gloo"],
        "invalidConfigPolicy": {"invalidRouteResponseCode": 404, "invalidRouteResponseBody": "changed"},
    }


def test_an_explicit_false_overrides() -> None:
    """A wrapper is one value: false is not the same as absent."""
    assert laid_over({"gloo": {"removeUnusedFilters": False}})["gloo"]["removeUnusedFilters"] is False
    assert laid_over({"gloo": {}})["gloo"]["removeUnusedFilters"] is True


def test_durations_are_one_value() -> None:
    """Half a second replaces ten: seconds and nanoseconds are not mixed."""
    assert laid_over({"refreshRate": "0.5s"})["refreshRate"] == "0.500s"


def test_lists_are_replaced() -> None:
    """A list on top is the whole list."""
    assert laid_over({"watchNamespaces": ["c"]})["watchNamespaces"] == ["c"]
    assert laid_over({})["watchNamespaces"] == ["a", "b"]


def test_maps_key_by_key() -> None:
    """Keys of a map are replaced one by one, in plain maps and in our own extension."""
    merged = laid_over(
        {
            "upstreamOptions": {"globalAnnotations": {"changed": "2", "new": "3"}},
            "extensions": {"configs": {"gloo-nomad": {"createDefaultGateways": False}, "other": {"x": 1}}},
        }
    )

    assert merged["upstreamOptions"]["globalAnnotations"] == {"kept": "1", "changed": "2", "new": "3"}
    assert merged["extensions"]["configs"] == {
        "gloo-nomad": {"createDefaultGateways": False, "adminBindAddr": "127.0.0.1:9"},
        "other": {"x": 1.0},
    }


def test_presence_is_kept() -> None:
    """An empty message that is there counts: it switches service discovery on."""
    assert laid_over({"consul": {"serviceDiscovery": {}}})["consul"] == {**FILE["consul"], "serviceDiscovery": {}}


def test_one_secret_source_replaces_another() -> None:
    """Of several alternatives the last one said is in force."""
    base = RuntimeSettings(
        message({**FILE, "directorySecretSource": {"directory": "s"}}), Ref("gloo-system", "default")
    )
    merged = base.overlaid(message({"vaultSecretSource": {"address": "http://v:1"}}))

    assert merged.message.WhichOneof("secret_source") == "vault_secret_source"


@pytest.mark.parametrize(
    ("top", "path"),
    [
        ({"consulKvSource": {"rootKey": "other"}}, "consulKvSource"),
        ({"directoryConfigSource": {"directory": "x"}}, "directoryConfigSource"),
        ({"ipV4Only": True}, "ipV4Only"),
        ({"gloo": {"xdsBindAddr": "0.0.0.0:2"}}, "gloo.xdsBindAddr"),
        ({"gloo": {"proxyDebugBindAddr": "0.0.0.0:2"}}, "gloo.proxyDebugBindAddr"),
        ({"consul": {"httpAddress": "other:1"}}, "consul.httpAddress"),
        ({"consul": {"address": "other:1"}}, "consul.address"),
        ({"consul": {"token": "other"}}, "consul.token"),
        ({"consul": {"insecureSkipVerify": True}}, "consul.insecureSkipVerify"),
        (
            {"extensions": {"configs": {"gloo-nomad": {"adminBindAddr": "127.0.0.1:2"}}}},
            "extensions.configs[gloo-nomad].adminBindAddr",
        ),
        (
            {"extensions": {"configs": {"gloo-nomad": {"frontDoorTlsKey": "/key"}}}},
            "extensions.configs[gloo-nomad].frontDoorTlsKey",
        ),
    ],
)
def test_what_is_decided_at_the_start(top: dict[str, Any], path: str) -> None:
    """Where objects are, how Consul is reached and what is listened on stay the file's, with a warning."""
    base = RuntimeSettings(message(FILE), Ref("gloo-system", "default"))
    findings = base.overlay_findings(message(top))

    assert base.overlaid(message(top)).message == base.message
    assert [(finding.severity, finding.path) for finding in findings] == [(Severity.WARNING, path)]
    assert "Settings file" in findings[0].message


def test_a_copy_of_the_file_is_no_warning() -> None:
    """Who publishes the file as it is changes nothing and is told nothing."""
    base = RuntimeSettings(message(FILE), Ref("gloo-system", "default"))

    assert base.overlay_findings(message(FILE)) == ()
    assert base.overlaid(message(FILE)).message == base.message


def test_an_unknown_own_setting_is_a_warning() -> None:
    """A field of our extension that nobody knows is named, with those that are known."""
    base = RuntimeSettings(message(FILE), Ref("gloo-system", "default"))
    top = message({"extensions": {"configs": {"gloo-nomad": {"createDefaultGateway": True}}}})
    (finding,) = base.overlay_findings(top)

    assert finding.severity is Severity.WARNING
    assert finding.path == "extensions.configs[gloo-nomad].createDefaultGateway"
    assert "createDefaultGateways" in finding.message


def live() -> LiveSettings:
    """Settings in force that refuse what no client can be built of."""
    return LiveSettings(RuntimeSettings(message(FILE), Ref("gloo-system", "default")), check_clients)


def test_an_object_is_taken_and_given_up() -> None:
    """It is in force while it exists; each change is announced, and no change is not."""
    settings = live()
    top = message({"consul": {"serviceDiscovery": {}}})

    assert settings.take(top) is True
    assert settings.settings.discovers_services
    assert settings.changed.is_set()
    settings.changed.clear()
    in_force = settings.settings
    assert settings.take(top) is False
    assert settings.take(message({"consul": {"serviceDiscovery": {}}})) is False
    assert settings.settings is in_force
    assert not settings.changed.is_set()
    assert settings.take(None) is True
    assert settings.settings is settings.base


@pytest.mark.parametrize(
    ("top", "told"),
    [
        ({"vaultSecretSource": {"address": "::::"}}, "vaultSecretSource.address"),
        ({"vaultSecretSource": {"address": "http://v:1", "aws": {}}}, "vaultSecretSource.aws.accessKeyId: is missing"),
        (
            {"vaultSecretSource": {"address": "https://v:1", "tlsConfig": {"caCert": "/nowhere/ca.pem"}}},
            "vaultSecretSource.tlsConfig",
        ),
        ({"secretOptions": {"sources": [{"vault": {"address": "ftp://v"}}]}}, "vaultSecretSource.address"),
        ({"directorySecretSource": {}}, "directorySecretSource.directory: is missing"),
        ({"extensions": {"configs": {"gloo-nomad": {"createDefaultGateways": "no"}}}}, "createDefaultGateways"),
    ],
)
def test_an_object_that_cannot_be_used_changes_nothing(top: dict[str, Any], told: str) -> None:
    """What was in force stays, the reason is an error on the object, and a mended one is taken."""
    settings = live()
    settings.take(message({"consul": {"serviceDiscovery": {}}}))
    before = settings.settings

    assert settings.take(message(top)) is False
    assert settings.settings is before
    (problem,) = settings.problems
    assert problem.severity is Severity.ERROR
    assert str(problem.ref) == "Settings gloo-system.default"
    assert told in str(problem)

    assert settings.take(message({})) is True
    assert settings.problems == ()
    assert not settings.settings.discovers_services
