"""Regular expressions and substitutions of users: Envoy takes what is accepted, and the answer comes at once."""

from gloo_nomad.acceptance.regexes import MAX_PROGRAM_SIZE, program_size, regex_covers, regex_fault, substitution_fault


def fuzz(data: bytes) -> None:
    """The expression, a line end, and the substitution."""
    pattern, _, substitution = data.decode(errors="replace").partition("\n")
    fault = regex_fault(pattern)
    assert len(fault) < 400
    if fault:
        return
    assert program_size(pattern) <= MAX_PROGRAM_SIZE
    substitution_fault(pattern, substitution)
    regex_covers(pattern, substitution, prefix=True)
