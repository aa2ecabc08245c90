"""URLs: what may be shown of the URL of a vault. Knows no engine."""
from __future__ import annotations

import re

# What is a password is said before it is known whether the URL is sound: so what should have been %40, %2F or %3F in it
# is taken for a part of it. Behind a host, all digits are a port, and [::1] is one in brackets.
PASSWORD = re.compile(r'(?<=://)([^:@/?#\[]*):[^/?#]*@')
UNQUOTED = re.compile(r'(?<=://)([^:@/?#\[]*):(?!\d*(?:[/?#,]|$)).*@', re.DOTALL)
SECRET = re.compile(r'password|passwd|token|secret', re.IGNORECASE)


def without_password(url: str) -> str:
    """Return the URL as errors, logs, reprs and pickles have it: what is secret is left out, the rest is as it was.

    >>> without_password('postgresql://ann:1234@host/db?vault=notes&sslpassword=1')
    'postgresql://ann@host/db?vault=notes'
    """
    shown, found = PASSWORD.subn(r'\1@', url, 1)
    if not found:
        shown = UNQUOTED.sub(r'\1@', url, 1)
    start, mark, query = shown.partition('?')
    kept = [item for item in query.split('&') if not SECRET.search(item.partition('=')[0])]
    return f'{start}{mark}{"&".join(kept)}'.rstrip('?') if len(kept) < len(query.split('&')) else shown
