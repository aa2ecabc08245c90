"""What schemathesis has to know to speak with the server: keys in JSON, and bodies of msgpack that are requests and values at once."""
from __future__ import annotations

import json

import msgpack
import schemathesis
from hypothesis import strategies as st

plain = st.none() | st.booleans() | st.integers(-2**63, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(
    st.characters(blacklist_categories=('Cs',)))
keys = st.recursive(plain, lambda inner: st.lists(inner, max_size=3), max_leaves=4).map(lambda key: json.dumps(key, ensure_ascii=False))
requests = st.sampled_from([[None, None, [['count', float('-inf'), b'\xff']]], [None, None, [['get', 'a'], ['contains', 7]]],
                            [None, 'a key', [['put', 'a', b'\x01']]]]).map(msgpack.packb)

schemathesis.openapi.format('json-key', keys)
schemathesis.openapi.media_type('application/vnd.vaults+msgpack', requests)
schemathesis.openapi.format('etags', st.sampled_from(['*', '"a"', 'W/"a", "b"']))
