"""Requests that two servers could interpret differently: refused, and never answered twice."""

import pytest
from raw import exchange, handshake, statuses

testinfra_hosts = ["ansible://app"]

HIDDEN = b"GET /api/whoami/ HTTP/1.1\r\nHost: sample.test\r\n\r\n"
POST = b"POST /api/echo/ HTTP/1.1\r\nHost: sample.test\r\nContent-Type: application/json\r\n"
GET = b"GET /healthz HTTP/1.1\r\n"
HOST = b"Host: sample.test\r\n"
TE = b"Transfer-Encoding: chunked\r\n"
CHUNKED = POST + TE + b"\r\n"
END = b"0\r\n\r\n"

REFUSED = {
    "length and encoding": POST + b"Content-Length: 4\r\n" + TE + b"\r\n" + END + HIDDEN,
    "encoding and length": POST + TE + b"Content-Length: 60\r\n\r\n" + END + HIDDEN,
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 49\r\n\r\n" + HIDDEN,
    "one length twice": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" + HIDDEN,
    "a list of lengths": POST + b"Content-Length: 0, 49\r\n\r\n" + HIDDEN,
    "a negative length": POST + b"Content-Length: -1\r\n\r\n" + HIDDEN,
    "a signed length": POST + b"Content-Length: +2\r\n\r\n{}" + HIDDEN,
    "a hexadecimal length": POST + b"Content-Length: 0x2\r\n\r\n{}" + HIDDEN,
    "a huge length": POST + b"Content-Length: 99999999999999999999\r\n\r\n" + HIDDEN,
    "two encodings": POST + TE + TE + b"\r\n" + END + HIDDEN,
    "chunked, identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + END + HIDDEN,
    "gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + END + HIDDEN,
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n" + HIDDEN,
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + END + HIDDEN,
    "chunked in quotes": POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + END + HIDDEN,
    "a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + END + HIDDEN,
    "space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n" + END + HIDDEN,
    "tab before the colon": POST + b"Content-Length\t: 49\r\n\r\n" + HIDDEN,
    "a folded encoding": POST + b"X: 1\r\n Transfer-Encoding: chunked\r\n\r\n" + END + HIDDEN,
    "a folded value": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + END + HIDDEN,
    "encoding in HTTP/1.0": POST.replace(b"1.1", b"1.0") + TE + b"\r\n" + END + HIDDEN,
    "a chunk that is no number": CHUNKED + b"zz\r\n{}\r\n" + END + HIDDEN,
    "a negative chunk": CHUNKED + b"-2\r\n{}\r\n" + END + HIDDEN,
    "a chunk with 0x": CHUNKED + b"0x2\r\n{}\r\n" + END + HIDDEN,
    "a chunk too long for its size": CHUNKED + b"1\r\n{}\r\n" + END + HIDDEN,
    "a chunk that overflows": CHUNKED + b"FFFFFFFFFFFFFFFF\r\n{}\r\n" + END + HIDDEN,
    "a chunk without a size": CHUNKED + b"\r\n{}\r\n" + END + HIDDEN,
    "a large header": GET + HOST + b"X-Large: " + b"x" * 9000 + b"\r\n\r\n",
    "many large headers": GET + HOST + b"".join(b"X-%d: %s\r\n" % (n, b"x" * 4000) for n in range(20)) + b"\r\n",
    "a long address": b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "null in a value": GET + HOST + b"X: a\0b\r\n\r\n",
    "null in a name": GET + HOST + b"X\0: a\r\n\r\n",
    "null in the address": b"GET /\0 HTTP/1.1\r\n" + HOST + b"\r\n",
    "coded null in the address": b"GET /%00 HTTP/1.1\r\n" + HOST + b"\r\n",
    "null in the host": GET + b"Host: sample.test\0.evil.test\r\n\r\n",
    "carriage return in a value": GET + HOST + b"X: a\rY: b\r\n\r\n",
    "no host": GET + b"\r\n",
    "two hosts": GET + HOST + b"Host: evil.test\r\n\r\n",
    "another host": GET + b"Host: evil.test\r\n\r\n",
    "host with a path": GET + b"Host: sample.test/x\r\n\r\n",
    "host with a user": GET + b"Host: evil.test@sample.test\r\n\r\n",
    "another host in the address": b"GET http://evil.test/healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "a colon as the method": b"G:T / HTTP/1.1\r\n" + HOST + b"\r\n",
    "connect": b"CONNECT sample.test:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "trace": b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n",
    "HTTP/0.9": b"GET /healthz\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64,
    "no words": b"\x00\x01\x02\x03\r\n\r\n",
    "dots above the root": b"GET /../../etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n",
    "a WebSocket without a key": handshake().replace(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""),
    "a WebSocket with half a key": handshake(**{"Sec-WebSocket-Key": "short"}),
    "a WebSocket of another version": handshake(**{"Sec-WebSocket-Version": "12"}),
    "a WebSocket by POST": handshake().replace(b"GET", b"POST", 1),
    "a WebSocket of HTTP/1.0": handshake().replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "a WebSocket elsewhere": handshake("/ws/nowhere/"),
    "a WebSocket from another page": handshake(Origin="https://evil.test"),
    "an upgrade to HTTP/2": handshake(Upgrade="h2c", **{"HTTP2-Settings": "AAMAAABkAAQCAAAAAAIAAAAA"}),
}
# Allowed, but has to count as one request.
ONE = {
    "a request in a body": GET + HOST + b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "a request in a chunk": CHUNKED + b"%x\r\n%s\r\n" % (len(HIDDEN), HIDDEN) + END,
    "a request in a trailer": CHUNKED + b"2\r\n{}\r\n0\r\nX: GET /api/whoami/ HTTP/1.1\r\n\r\n",
    "plain line ends": b"GET /healthz HTTP/1.1\nHost: sample.test\n\n",
    "an underscore in a name": GET + HOST + b"Content_Length: 49\r\nX_Forwarded_For: 6.6.6.6\r\n\r\n",
    "a WebSocket with a body": handshake("/healthz", **{"Content-Length": str(len(HIDDEN))}) + HIDDEN,
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_malformed_is_refused_once(case, site):
    received, closed = exchange(site.port, REFUSED[case])
    answers = statuses(received)
    assert len(answers) == 1 or (not received and closed), received
    # RFC 9110 defines 501 for an unknown encoding and 505 for an unknown version.
    assert all(400 <= status < 500 or status in (501, 505) for status in answers), received
    assert b"127.0.0.1" not in received
    assert b"release" not in received.lower().partition(b"\r\n\r\n")[2], received


@pytest.mark.parametrize("case", ONE)
def test_what_is_odd_is_one_request(case, site):
    received, _ = exchange(site.port, ONE[case])
    assert len(statuses(received)) == 1, received
    assert b'"client"' not in received


def test_the_site_is_well_after_all_that(site):
    assert site.get("/api/hello/").status_code == 200
