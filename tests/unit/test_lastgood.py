"""Last good virtual hosts: what an edit broke is served as it was, and nothing else is."""

from gloo_nomad.api.gen import http_listener_options_pb2, listener_options_pb2, proxy_pb2
from gloo_nomad.api.kinds import GATEWAY, VIRTUAL_SERVICE
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.lastgood import LastGood
from gloo_nomad.proxies import HttpGroup, Listener, Proxy, VirtualHost
from gloo_nomad.reports import Problem, Severity
from gloo_nomad.store.snapshot import Collection, ConfigSnapshot

OPTIONS = http_listener_options_pb2.HttpListenerOptions()


def service(name: str) -> ObjectRef:
    """A virtual service's name."""
    return ObjectRef(VIRTUAL_SERVICE.name, "ns", name)


def host(name: str, *domains: str) -> VirtualHost:
    """A virtual host with these domains, another one each time."""
    return VirtualHost.of(service(name), proxy_pb2.VirtualHost(name=f"ns.{name}", domains=domains))


def proxy(*hosts: VirtualHost, listener: str = "a", name: str = "gateway-proxy") -> Proxy:
    """A proxy with one listener and these virtual hosts."""
    source = ObjectRef(GATEWAY.name, "ns", listener)
    group = HttpGroup(source, f"{listener}-routes", OPTIONS, hosts)
    none = listener_options_pb2.ListenerOptions(), listener_options_pb2.RouteConfigurationOptions()
    return Proxy(Ref("ns", name), (Listener(source, listener, "::", 80, *none, use_proxy_proto=False, http=(group,)),))


def world(*names: str, created: dict[str, int] | None = None) -> ConfigSnapshot:
    """A snapshot in which these virtual services exist."""
    refs = {Ref("ns", name): proxy_pb2.VirtualHost() for name in names}
    ages = {Ref("ns", name): age for name, age in (created or {}).items()}
    return ConfigSnapshot({VIRTUAL_SERVICE.name: Collection(refs)}, {VIRTUAL_SERVICE.name: ages})


def errors(*names: str, severity: Severity = Severity.ERROR, closed: bool = False) -> list[Problem]:
    """A problem of each of these virtual services."""
    return [Problem(severity, service(name), "", "wrong", closed) for name in names]


def hosts(found: Proxy) -> dict[str, list[str]]:
    """Domains by virtual host of the first listener."""
    return {each.message.name: list(each.message.domains) for each in found.listeners[0].http[0].virtual_hosts}


def test_nothing_wrong_is_the_same_proxy() -> None:
    """Without errors the very same value comes back; a warning is none."""
    good, last = proxy(host("x", "x.com")), LastGood()

    assert last.restore(good, errors("x", severity=Severity.WARNING), world("x")) is good


def test_an_error_brings_the_last_good_one_back() -> None:
    """The virtual host is the one from before, its neighbours are the present ones."""
    last, x, y = LastGood(), host("x", "x.com"), host("y", "y.com")
    last.restore(proxy(x, y), [], world("x", "y"))
    newer = host("y", "new.com")
    kept = last.restore(proxy(host("x", "broken.com"), newer), errors("x"), world("x", "y"))

    assert kept.listeners[0].http[0].virtual_hosts == (x, newer)


def test_one_that_was_left_out_comes_back() -> None:
    """A virtual host that translation leaves out altogether is served as it was."""
    last, x = LastGood(), host("x", "x.com")
    last.restore(proxy(x), [], world("x"))

    assert hosts(last.restore(proxy(), errors("x"), world("x"))) == {"ns.x": ["x.com"]}


def test_one_that_was_never_good_stays_as_it_is() -> None:
    """Without an earlier version there is nothing to go back to."""
    first = proxy(host("x", "x.com"))

    assert LastGood().restore(first, errors("x"), world("x")) is first


def test_unchanged_inputs_keep_the_identity() -> None:
    """The restored proxy is the same object as long as nothing changes, also over a sweep."""
    last = LastGood()
    last.restore(proxy(host("x", "x.com"), host("y", "y.com")), [], world("x", "y"))
    broken = proxy(host("x", "bad.com"), host("y", "y.com"))
    first = last.restore(broken, errors("x"), world("x", "y"))
    last.sweep({broken.role})

    assert last.restore(broken, errors("x"), world("x", "y")) is first


def test_a_domain_that_another_has_now_is_not_taken_back() -> None:
    """What was given to somebody else meanwhile stays there; the rest of the domains comes back."""
    last = LastGood()
    last.restore(proxy(host("x", "x.com", "shared.com")), [], world("x"))
    kept = last.restore(proxy(host("y", "shared.com")), errors("x"), world("x", "y"))

    assert hosts(kept) == {"ns.x": ["x.com"], "ns.y": ["shared.com"]}


def test_without_a_domain_left_it_is_not_served() -> None:
    """A virtual host all of whose domains others have would make Envoy refuse the whole RouteConfiguration."""
    last = LastGood()
    last.restore(proxy(host("x", "x.com")), [], world("x"))

    assert hosts(last.restore(proxy(host("y", "x.com")), errors("x"), world("x", "y"))) == {"ns.y": ["x.com"]}


def test_of_two_rejected_ones_the_older_has_the_domain() -> None:
    """Two last good versions with one domain, good at different times: the older object has it, whatever its name."""
    last = LastGood()
    last.restore(proxy(host("a", "d.com", "a.com")), [], world("a"))
    last.restore(proxy(host("b", "d.com")), errors("a"), world("a", "b"))
    found = last.restore(proxy(), errors("a", "b"), world("a", "b", created={"a": 9, "b": 2}))
    other = last.restore(proxy(), errors("a", "b"), world("a", "b", created={"a": 2, "b": 9}))

    assert hosts(found) == {"ns.a": ["a.com"], "ns.b": ["d.com"]}
    assert hosts(other) == {"ns.a": ["d.com", "a.com"]}


def test_a_removed_object_is_forgotten() -> None:
    """A virtual service that was deleted does not come back, not even when one of its name is made anew, wrong."""
    last = LastGood()
    last.restore(proxy(host("x", "x.com")), [], world("x"))
    last.restore(proxy(), [], world())
    broken = proxy()

    assert last.restore(broken, errors("x"), world("x")) is broken


def test_one_that_was_good_elsewhere_does_not_come_back_here() -> None:
    """A virtual service that was taken off a listener while it was good stays off when it is broken later."""
    last = LastGood()
    last.restore(proxy(host("x", "x.com")), [], world("x"))
    last.restore(proxy(), [], world("x"))
    broken = proxy()

    assert last.restore(broken, errors("x"), world("x")) is broken


def test_a_long_mistake_is_survived() -> None:
    """The memory lasts as long as the mistake, whatever else changes."""
    last = LastGood()
    last.restore(proxy(host("x", "x.com")), [], world("x"))
    for number in range(5):
        kept = last.restore(proxy(host("y", f"{number}.com")), errors("x"), world("x", "y"))
        last.sweep({kept.role})

    assert hosts(kept)["ns.x"] == ["x.com"]


def test_a_missing_protection_is_not_answered_with_an_open_version() -> None:
    """An error that says that protection is missing keeps the older, perhaps open, version out, also later."""
    last = LastGood()
    last.restore(proxy(host("x", "open.com")), [], world("x"))
    guarded = proxy(host("x", "guarded.com"))

    assert last.restore(guarded, errors("x", closed=True), world("x")) is guarded
    assert "open.com" not in str(hosts(last.restore(proxy(), errors("x"), world("x"))))


def test_proxies_are_apart() -> None:
    """What was good in one proxy says nothing of another; a proxy that is gone is forgotten."""
    last = LastGood()
    last.restore(proxy(host("x", "x.com"), name="one"), [], world("x"))
    other = proxy(name="two")

    assert last.restore(other, errors("x"), world("x")) is other
    last.sweep({"ns~two"})
    gone = proxy(name="one")
    assert last.restore(gone, errors("x"), world("x")) is gone


def test_memory_follows_the_configuration() -> None:
    """After a thousand virtual services came and went, only what is there is remembered."""
    last = LastGood()
    for number in range(1000):
        last.restore(proxy(host(f"x{number}", "x.com")), [], world(f"x{number}"))

    assert [len(good.served) + len(good.kept) for good in last.hosts.values()] == [1]
