"""A WebAssembly module for tests, put together by hand: it adds ``x-wasm: yes`` to requests.

https://github.com/proxy-wasm/spec/tree/main/abi-versions/v0.2.1 says what Envoy calls and offers;
https://webassembly.github.io/spec/core/binary/ how a module is written down.
"""

_I32 = b"\x7f"
_TYPES = ((0, 0), (2, 0), (1, 1), (3, 1), (5, 1), (2, 1))
"""Numbers of parameters and results, all 32-bit integers."""
_NAME, _NAME_AT = "x-wasm", 16
_VALUE, _VALUE_AT = "yes", 32
_HEAP = 4096


def build_module() -> bytes:
    """The module, in binary form."""
    call = b"".join(map(_const, (0, _NAME_AT, len(_NAME), _VALUE_AT, len(_VALUE)))) + b"\x10\x00\x1a"
    functions = (
        ("proxy_abi_version_0_2_1", 0, b""),
        ("malloc", 2, _const(_HEAP)),
        ("proxy_on_context_create", 1, b""),
        ("proxy_on_vm_start", 5, _const(1)),
        ("proxy_on_configure", 5, _const(1)),
        ("proxy_on_request_headers", 3, call + _const(0)),
    )
    types = [b"\x60" + _vector([_I32] * taken) + _vector([_I32] * given) for taken, given in _TYPES]
    imported = _text("env") + _text("proxy_add_header_map_value") + b"\x00\x04"
    exports = [_text(name) + b"\x00" + _number(index) for index, (name, _, _) in enumerate(functions, 1)]
    bodies = [b"\x00" + body + b"\x0b" for _, _, body in functions]
    data = [b"\x00" + _const(at) + b"\x0b" + _text(text) for at, text in ((_NAME_AT, _NAME), (_VALUE_AT, _VALUE))]
    sections = {
        1: _vector(types),
        2: _vector([imported]),
        3: _vector([_number(kind) for _, kind, _ in functions]),
        5: _vector([b"\x00\x01"]),
        7: _vector([_text("memory") + b"\x02\x00", *exports]),
        10: _vector([_number(len(body)) + body for body in bodies]),
        11: _vector(data),
    }
    return b"\0asm\1\0\0\0" + b"".join(bytes([kind]) + _number(len(body)) + body for kind, body in sections.items())


def _number(value: int) -> bytes:
    """An unsigned LEB128 number."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _const(value: int) -> bytes:
    """``i32.const`` of a non-negative number (signed LEB128)."""
    out = bytearray(b"\x41")
    while value > 0x3F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _vector(items: list[bytes]) -> bytes:
    return _number(len(items)) + b"".join(items)


def _text(text: str) -> bytes:
    return _number(len(text)) + text.encode()
