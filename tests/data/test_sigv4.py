"""Our signature against botocore's own."""

from __future__ import annotations

from datetime import UTC, datetime

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from service.supervisor.data import StoreAccess
from service.supervisor.data.sigv4 import authorization, encoded_path, encoded_query

AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
NAMES = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=20)


@given(NAMES, st.dictionaries(NAMES, NAMES, max_size=3), st.sampled_from(["GET", "PUT"]))
def test_signs_as_botocore_does(key: str, query: dict[str, str], method: str) -> None:
    access = StoreAccess("http://store:9000", "gra", "anaccesskey", "asecretkey")
    path, encoded = encoded_path(f"/box/{key}"), encoded_query(query)
    headers = {"host": "store:9000", "x-amz-content-sha256": "ab" * 32, "x-amz-date": "20260304T050607Z"}
    request = AWSRequest(method=method, url=f"http://store:9000{path}?{encoded}", headers=headers)
    request.context["timestamp"] = headers["x-amz-date"]
    theirs = S3SigV4Auth(Credentials(access.access_key, access.secret_key), "s3", access.region)
    canonical = theirs.canonical_request(request)
    signature = theirs.signature(theirs.string_to_sign(request, canonical), request)

    ours = authorization(access, method, path, encoded, headers, "ab" * 32, AT)

    assert ours.endswith(f"Signature={signature}")
