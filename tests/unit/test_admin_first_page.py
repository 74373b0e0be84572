"""The first admin page, as HTML: what is wrong stands on it, the worst first, and nothing else is coloured."""

from gloo_nomad.admin.first_page import build_page
from gloo_nomad.admin.view import AdminView, Client, LastKnown, SourceState
from gloo_nomad.api.refs import ObjectRef
from gloo_nomad.reports import Problem, Severity

REF = ObjectRef("VirtualService", "ns", "<b>")
ENVOY = Client("envoy-1", "gloo-system~gateway-proxy", "127.0.0.1:5", "delta", 1.0)


def test_problems() -> None:
    """Problems are counted in words and listed, errors first; of very many the rest is a link. Nothing runs as HTML."""
    warnings = [Problem(Severity.WARNING, REF, "path", f"number {number}") for number in range(25)]
    page = build_page(AdminView(problems=lambda: (*warnings, Problem(Severity.ERROR, REF, "", "worst"))))
    assert '<td class="bad">1 error, 25 warnings</td>' in page
    assert page.index("worst") < page.index("path: number 0")
    assert "number 18" in page
    assert "number 19" not in page
    assert '<a href="/problems">and</a></th><td class="">6 more' in page
    assert "VirtualService ns.&lt;b&gt;" in page
    assert "<b>" not in page


def test_all_is_well() -> None:
    """Without problems there is no list of them, and no colour."""
    sources = [SourceState("kv", listed=True)]
    page = build_page(AdminView(sources=lambda: sources, clients=lambda: [ENVOY]))
    assert '<td class="">0 errors, 0 warnings</td>' in page
    assert '<td class="">ready</td>' in page
    assert "Problems</h2>" not in page
    assert 'class="bad"' not in page
    assert 'class="warn"' not in page


def test_what_fails() -> None:
    """Sources that fail or have not listed, Envoys that reject, and what is served from disk, are marked."""
    rejecting = Client("envoy-2", "role", "127.0.0.1:6", "delta", 1.0, (), 1, "no such filter")
    sources = [SourceState("kv", listed=True, error="refused"), SourceState("vault", listed=False)]
    kept = LastKnown(since=5.0, sources=("vault",))
    page = build_page(
        AdminView(sources=lambda: sources, clients=lambda: [ENVOY, rejecting], last_known=lambda: kept),
    )
    assert '<td class="bad">2, 1 of them rejecting</td>' in page
    assert '<td class="bad">fails: refused</td>' in page
    assert '<td class="warn">not listed yet</td>' in page
    assert '<td class="bad">not ready</td>' in page
    assert '<td class="warn">served as it was kept on disk: vault</td>' in page
    assert '<td class="warn">0</td>' in build_page(AdminView())  # no Envoy
