"""When an emptiness is doubted: only if Consul seems to be another one than before."""

import pytest

from gloo_nomad.api.refs import Ref
from gloo_nomad.app.data_loss import doubtful_services, own_prefix
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.services import CONSUL_SERVICE, Instance, ServiceInstances

WEB = Ref("", "web")
SOME = ServiceInstances((Instance("127.0.0.1", 1, "a"),))
NONE = ServiceInstances(())


def doubted(known: Entry | None, now: Entry) -> bool:
    """Whether a change of one service is doubted."""
    stored = {WEB: known} if known is not None else {}
    change = Change("consul-services", CONSUL_SERVICE, {WEB: now})
    return doubtful_services(change, lambda kind: stored if kind == CONSUL_SERVICE else {}) == {WEB}


def test_gone_in_an_older_answer() -> None:
    """No instances any more, and an index that went back: Consul began anew."""
    assert doubted(Entry(SOME, version=100), Entry(NONE, version=20))


@pytest.mark.parametrize(
    ("known", "now"),
    [
        (Entry(SOME, version=100), Entry(NONE, version=101)),
        (Entry(SOME, version=100), Entry(NONE, version=100)),
        (Entry(SOME, version=100), Entry(SOME, version=20)),
        (Entry(NONE, version=100), Entry(NONE, version=20)),
        (None, Entry(NONE, version=20)),
    ],
)
def test_what_is_believed(known: Entry | None, now: Entry) -> None:
    """An instance that left, one that is still there, a service that had none, and one that is new."""
    assert not doubted(known, now)


def test_own_keys_are_no_objects() -> None:
    """The locks that this program writes itself do not count as data that came back."""
    assert "gloo/gloo-nomad/leader/gloo-system/gloo".startswith(own_prefix("gloo"))
    assert not "gloo/gloo.solo.io/v1/Upstream/a/b".startswith(own_prefix("gloo"))
