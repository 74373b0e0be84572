"""The proxy that breaks answers: each of its faults, seen by a client, in front of a real Consul."""

import http.client
import threading
import time

import pytest

from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.processes import wait_until
from tests.faults import Fault, Garbage, Proxy, Reset, Slow, Status, Truncated, with_index

pytestmark = pytest.mark.consul

LEADER = "/v1/status/leader"


def test_passes_on_and_counts(consul: ConsulAgent, root_key: str) -> None:
    """Without a fault the proxy says what the server says, and remembers what it was asked."""
    with Proxy(consul.port) as proxy:
        assert fetch(proxy.port, f"/v1/kv/{root_key}/a%2Fb", method="PUT", body=b"text").text.strip() == "true"
        answer = fetch(proxy.port, f"/v1/kv/{root_key}/a/b?raw")
        assert (answer.status, answer.body) == (200, b"text")
        assert proxy.count(f"/v1/kv/{root_key}") == 2
        assert proxy.count(LEADER) == 0


@pytest.mark.parametrize("fault", [Reset(), Truncated(), Garbage()], ids=["reset", "truncated", "garbage"])
def test_no_whole_answer(consul: ConsulAgent, fault: Fault) -> None:
    """Such an answer is an error for a client, on that path alone and only while the fault lasts."""
    with Proxy(consul.port) as proxy:
        with proxy.fault(LEADER, fault):
            with pytest.raises((OSError, http.client.HTTPException)):
                fetch(proxy.port, LEADER)
            assert fetch(proxy.port, "/v1/status/peers").status == 200
        assert fetch(proxy.port, LEADER).status == 200


def test_other_answers(consul: ConsulAgent) -> None:
    """A status, a delay and another index, of which the last comes once."""
    with Proxy(consul.port) as proxy:
        with proxy.fault(LEADER, Status(429)):
            assert fetch(proxy.port, LEADER).status == 429
        with proxy.fault(LEADER, Slow(0.3)):
            began = time.monotonic()
            assert fetch(proxy.port, LEADER).status == 200
            assert time.monotonic() - began >= 0.3
        with proxy.fault("/v1/catalog/services", with_index(1)):
            indexes = [fetch(proxy.port, "/v1/catalog/services").headers["x-consul-index"] for _ in range(2)]
        assert indexes[0] == "1"
        assert int(indexes[1]) > 1


def test_down_and_up_again(consul: ConsulAgent) -> None:
    """Nobody listens meanwhile, and afterwards on the same port."""
    with Proxy(consul.port) as proxy:
        port = proxy.port
        with proxy.down(), pytest.raises(ConnectionError):
            fetch(port, LEADER)
        assert fetch(port, LEADER).status == 200


def test_what_waits_is_broken_too(consul: ConsulAgent) -> None:
    """A blocking query is answered by the fault as soon as there is one."""
    with Proxy(consul.port) as proxy:
        index = fetch(proxy.port, "/v1/health/service/nobody").headers["x-consul-index"]
        statuses: list[int] = []

        def ask() -> None:
            path = f"/v1/health/service/nobody?index={index}&wait=30s"
            statuses.append(fetch(proxy.port, path, timeout=40).status)

        thread = threading.Thread(target=ask)
        thread.start()
        wait_until(lambda: proxy.waiting == 1, "the question", 10)
        with proxy.fault("/v1/health/service/nobody", Status(500)):
            thread.join(10)
        assert statuses == [500]
