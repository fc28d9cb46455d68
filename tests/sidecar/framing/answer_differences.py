"""Where nginx 1.22 passes on another answer than the sidecar does, or h11 reads another one, by reason.

The reasons are in `cases`, and as a table in docs/design/live-path.md. `unreadable`: what nginx passes on cannot be
read by h11. A case that is not listed is understood alike by all three.
"""

from tests.sidecar.framing.cases import Differences, Why

NGINX: Differences = {
    Why.FRAMING: {
        "length: tab before": "200 ok (cut)",
        "length: twice, the same": "200 ok",
        "length: twice, different": "200 ok (cut)",
        "length: plus": "200 ok",
        "length: minus": "200 ok",
        "length: hex": "200 ok",
        "length: list": "200 ok",
        "length: two": "200 ok",
        "length: empty": "200 ok",
        "length: text": "200 ok",
        "length: 2^64+2": "200 ok",
        "length: forty digits": "200 ok",
        "length: point": "200 ok",
        "coding: trailer with a length": "200 ok",
        "coding: and length": "200 ok",
        "coding: and length, reversed": "200 ok",
        "coding: gzip": "200 2\\r\\nok\\r\\n0",
        "coding: gzip, chunked": "200 ok",
        "coding: identity": "200 2\\r\\nok\\r\\n0",
        "coding: xchunked": "200 ok",
        "coding: chunked, identity": "200 ok",
        "coding: chunked twice": "200 ok",
        "coding: empty": "200 2\\r\\nok\\r\\n0",
        "coding: two lines": "200 ok",
        "head: length and coding": "200",
        "head: two lengths": "200",
    },
    Why.HEADER_NAME: {
        "header: no colon": "200 ok",
    },
    Why.HEADER_VALUE: {
        "header: control in value": "200 ok",
        "header: DEL in value": "200 ok",
    },
    Why.BARE_LF: {
        "coding: LF in chunks": "200 ok",
        "header: bare LF": "200 ok",
        "header: LF everywhere": "200 ok",
        "header: LF at the head's end": "200 ok",
    },
    Why.LIMIT: {
        "header: of 8000": "refused",
        "header: 300 lines": "200 ok",
    },
    Why.STATUS_LINE: {
        "status: nul in the reason": "unreadable",
        "status: two digits": "unreadable",
        "status: four digits": "unreadable",
        "status: no number": "unreadable",
        "status: minus": "unreadable",
        "status: 099": "unreadable",
        "status: none": "unreadable",
        "status: HTTP/2": "unreadable",
        "status: small http": "unreadable",
        "status: no HTTP": "unreadable",
        "status: ICY": "unreadable",
        "status: space before": "unreadable",
        "status: empty line before": "unreadable",
        "status: not HTTP": "unreadable",
        "status: a request": "unreadable",
        "status: HTML without a head": "unreadable",
        "interim: 101": "unreadable",
        "interim: 101 without headers": "unreadable",
        "header: 8-bit in name": "unreadable",
    },
    Why.VERSION: {
        "status: HTTP/1.2": "200 ok",
    },
    Why.INTERIM: {
        "interim: 100 and the end": "waits",
        "interim: 100 with a length": "waits",
        "interim: 100 without an end": "waits",
        "interim: 199 with a body": "waits",
    },
}

H11: Differences = {
    Why.FOLD: {
        "coding: folded": "200 ok",
        "header: folded": "200 ok",
        "header: folded with tab": "200 ok",
    },
    Why.FRAMING: {
        "length: twice, the same": "200 ok",
        "length: list": "200 ok",
        "length: 2^64+2": "200 ok (cut)",
        "coding: trailer with a length": "200 ok",
        "coding: and length": "200 ok",
        "coding: and length, reversed": "200 ok",
        "coding: size of 2^64+2": "200 ok\\r\\n0 (cut)",
        "head: length and coding": "200",
    },
    Why.HEADER_VALUE: {
        "header: control in value": "200 ok",
        "header: DEL in value": "200 ok",
    },
    Why.BARE_LF: {
        "header: bare LF": "200 ok",
        "header: LF everywhere": "200 ok",
        "header: LF at the head's end": "200 ok",
    },
    Why.LIMIT: {
        "header: 300 lines": "200 ok",
        "header: 300 KB": "200 ok",
    },
    Why.REASON: {
        "status: nul in the reason": "refused",
        "status: empty line before": "refused",
    },
    Why.VERSION: {
        "status: HTTP/1.2": "200 ok",
    },
}
