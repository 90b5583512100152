"""Texts for implementations that read JSON themselves: what two parsers could read differently is refused."""  # noqa: INP001 - a folder of data with its scripts, no package

import json
from typing import Any

from distribution.canonical_json import canonical_bytes

REFUSED: dict[str, bytes] = {
    "nothing": b"",
    "white space": b" \n",
    "two values": b"{}{}",
    "words after the value": b"[] x",
    "an open object": b'{"a":1',
    "an open list": b"[1,",
    "an open string": b'"a',
    "a comma too many": b"[1,]",
    "a comma too many in an object": b'{"a":1,}',
    "no comma": b"[1 2]",
    "a name without quotes": b"{a:1}",
    "one name twice": b'{"a":1,"a":2}',
    "one name twice, once escaped": b'{"a":1,"\\u0061":2}',
    "single quotes": b"['a']",
    "a comment": b"[1/**/]",
    "a leading zero": b"[01]",
    "a plus": b"[+1]",
    "a point without digits": b"[1.]",
    "an exponent without digits": b"[1e]",
    "a minus alone": b"[-]",
    "no number": b"[NaN]",
    "an infinity": b"[Infinity]",
    "True": b"[True]",
    "half a word": b"[tru]",
    "a line break in a string": b'["a\nb"]',
    "an unknown escape": b'["\\x41"]',
    "a short escape": b'["\\u12"]',
    "half a surrogate pair": b'["\\ud83d"]',
    "a surrogate pair the wrong way round": b'["\\ude80\\ud83d"]',
    "a byte order mark": b"\xef\xbb\xbf[]",
    "no UTF-8": b'["\xff"]',
    "an overlong UTF-8": b'["\xc0\xaf"]',
    "a surrogate in UTF-8": b'["\xed\xa0\x80"]',
    "a no-break space": b"[\xc2\xa01]",
    "a thousand levels": b"[" * 1000 + b"]" * 1000,
}
ACCEPTED: dict[str, bytes] = {
    "white space everywhere": b' \t\r\n{ "a" : [ 1 , -2 ] , "b" : { } , "c" : [ ] }\n',
    "escapes": b'{"a":"\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e4"}',
    "a pair of escapes": b'{"a":"\\ud83d\\ude80"}',
    "UTF-8": '{"a":"für \U0001f680"}'.encode(),
    "a delete character": b'{"a":"\x7f"}',
    "words": b'{"a":[true,false,null]}',
    "minus nought": b'{"a":-0}',
    "twenty levels": b'{"a":' + b"[" * 19 + b"]" * 19 + b"}",
}


def json_texts() -> dict[str, Any]:
    """`canonical_utf8_hex` is what the text means."""
    return {
        "refused": [{"name": name, "utf8_hex": text.hex()} for name, text in REFUSED.items()],
        "accepted": [
            {"name": name, "utf8_hex": text.hex(), "canonical_utf8_hex": canonical_bytes(json.loads(text)).hex()}
            for name, text in ACCEPTED.items()
        ],
    }
