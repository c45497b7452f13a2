"""What goes out is what botocore would sign if it read the body and the URL itself."""

from __future__ import annotations

import re
from hashlib import sha256
from urllib.parse import unquote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from service.supervisor.data import StoreAccess
from service.supervisor.data.s3.sigv4 import Requests

NAMES = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=20)
QUERIES = st.dictionaries(NAMES, NAMES, max_size=3)
MD5 = {"content-md5": "xMpCOKC5I4INzFCab3WEmw=="}


@given(
    NAMES | st.sampled_from(["..", "a/../b", "a//b", "+"]),
    QUERIES,
    st.sampled_from(["GET", "PUT"]),
    st.binary(max_size=9),
    st.sampled_from(["gra", ""]),
)
def test_signs_as_botocore_does(
    key: str, query: dict[str, str], method: str, body: bytes, region: str
) -> None:
    access = StoreAccess("http://store:9000", region, "anaccesskey", "asecretkey")

    url, headers = Requests(access).signed(method, f"/box/{key}", query, MD5, sha256(body).hexdigest())

    sent = {"host": "store:9000", "X-Amz-Date": headers["X-Amz-Date"], **MD5}
    seen = AWSRequest(method, f"http://store:9000{url.raw_path_qs}", sent, body)
    seen.context["timestamp"] = headers["X-Amz-Date"]
    theirs = S3SigV4Auth(Credentials("anaccesskey", "asecretkey"), "s3", region or "us-east-1")
    seen.headers["X-Amz-Content-SHA256"] = theirs.payload(seen)
    signature = theirs.signature(theirs.string_to_sign(seen, theirs.canonical_request(seen)), seen)
    assert headers["Authorization"].endswith(f"Signature={signature}")
    assert f"/{region or 'us-east-1'}/s3/aws4_request" in headers["Authorization"]
    assert re.fullmatch(r"[A-Za-z0-9/%._~-]+", url.raw_path)
    assert unquote(url.raw_path) == f"/box/{key}"
    assert dict(url.query) == query


def test_over_tls_the_body_is_not_hashed_and_the_default_port_not_named() -> None:
    access = StoreAccess("https://store:443/base/", "gra", "anaccesskey", "asecretkey")
    requests = Requests(access)
    url, headers = requests.signed("PUT", "/box/x", {}, MD5, "UNSIGNED-PAYLOAD")
    assert requests.secure
    assert (url.raw_path, headers["host"]) == ("/base/box/x", "store")
    assert headers["X-Amz-Content-SHA256"] == "UNSIGNED-PAYLOAD"
    assert "content-md5;host;x-amz-content-sha256;x-amz-date" in headers["Authorization"]
