"""Answers that Envoy gives by itself: redirects, direct responses, and the answer in place of an invalid route."""

from collections.abc import Iterator
from typing import Any, Final

from gloo_nomad.acceptance.paths import path_fault
from gloo_nomad.acceptance.regexes import regex_fault, substitution_fault
from gloo_nomad.api.gen import listener_options_pb2, proxy_pb2, settings_pb2
from gloo_nomad.messages import regex_matcher
from gloo_nomad.options.hooks import EVERY, Claims
from gloo_nomad.reports import Finding, error

FIELDS: Claims = {
    "gloo.solo.io.RedirectAction": (
        "host_redirect",
        "path_redirect",
        "prefix_rewrite",
        "regex_rewrite",
        "response_code",
        "https_redirect",
        "strip_query",
        "port_redirect",
    ),
    "gloo.solo.io.DirectResponseAction": ("status", "body"),
    "gloo.solo.io.RouteConfigurationOptions": (
        "max_direct_response_body_size_bytes",
        "most_specific_header_mutations_wins",
    ),
}
READS: Claims = {
    "solo.io.envoy.type.matcher.v3.RegexMatchAndSubstitute": EVERY,
}

DEFAULT_BODY_LIMIT: Final = 4096
"""Envoy's bound for the body of a direct response when the RouteConfiguration names none, in bytes."""
DEFAULT_INVALID_STATUS: Final = 404
_REDIRECT_CODES: Final = frozenset(range(5))


def body_limit(options: listener_options_pb2.RouteConfigurationOptions) -> int:
    """How many bytes the body of a direct response may have."""
    if options.HasField("max_direct_response_body_size_bytes"):
        return int(options.max_direct_response_body_size_bytes.value)
    return DEFAULT_BODY_LIMIT


def apply_direct_response(action: proxy_pb2.DirectResponseAction, out: Any, limit: int) -> Iterator[Finding]:
    """A fixed status and body."""
    out.direct_response.status = action.status
    if action.body:
        out.direct_response.body.inline_string = action.body
    if not 200 <= action.status <= 599:
        yield error("status", f"{action.status} is no status that a response can have; it must be 200 to 599")
    size = len(action.body.encode())
    if size > limit:
        remedy = "raise routeOptions.maxDirectResponseBodySizeBytes of the Gateway, or shorten it"
        yield error("body", f"has {size} bytes where {limit} are allowed; {remedy}")


def apply_invalid_response(settings: settings_pb2.Settings, out: Any, limit: int) -> None:
    """The answer of a route that cannot be served, by ``gloo.invalidConfigPolicy``."""
    policy = settings.gloo.invalid_config_policy
    status = policy.invalid_route_response_code
    out.direct_response.status = status if 200 <= status <= 599 else DEFAULT_INVALID_STATUS
    body = policy.invalid_route_response_body
    if body and len(body.encode()) <= limit:
        out.direct_response.body.inline_string = body


def apply_redirect(action: proxy_pb2.RedirectAction, out: Any) -> Iterator[Finding]:
    """Another host, path, scheme or port to ask."""
    redirect = out.redirect
    redirect.SetInParent()
    redirect.host_redirect = action.host_redirect
    redirect.strip_query = action.strip_query
    redirect.https_redirect = action.https_redirect
    yield from _apply_path(action, redirect)
    if action.response_code in _REDIRECT_CODES:
        redirect.response_code = action.response_code
    else:
        yield error("responseCode", f"{action.response_code} is none of the codes of a redirect")
    if action.HasField("port_redirect"):
        redirect.port_redirect = action.port_redirect.value
        if not 1 <= action.port_redirect.value <= 65535:
            yield error("portRedirect", f"{action.port_redirect.value} is no port; it must be between 1 and 65535")
    if any(character.isspace() or not character.isprintable() for character in action.host_redirect):
        yield error("hostRedirect", "must be a host name, without spaces or control characters")


def _apply_path(action: proxy_pb2.RedirectAction, out: Any) -> Iterator[Finding]:
    match action.WhichOneof("path_rewrite_specifier"):
        case "path_redirect":
            out.path_redirect = action.path_redirect
            fault, field = path_fault(action.path_redirect), "pathRedirect"
        case "prefix_rewrite":
            out.prefix_rewrite = action.prefix_rewrite
            fault, field = path_fault(action.prefix_rewrite), "prefixRewrite"
        case "regex_rewrite":
            regex, substitution = action.regex_rewrite.pattern.regex, action.regex_rewrite.substitution
            out.regex_rewrite.pattern.CopyFrom(regex_matcher(regex))
            out.regex_rewrite.substitution = substitution
            fault, field = regex_fault(regex), "regexRewrite.pattern.regex"
            if not fault:
                fault, field = substitution_fault(regex, substitution), "regexRewrite.substitution"
        case _:
            return
    if fault:
        yield error(field, fault)
