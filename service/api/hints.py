"""What the OpenAPI document says of fields beyond their types, for people and for clients made from it.

The service's own checks are in the domain and have words of their own; these only tell of them.
"""

from __future__ import annotations

from typing import Any

#: Each holds for everything that is taken: narrower ones would tell clients less than the truth.
_ALIAS = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
#: A container, or a repository below a git store.
_CONTAINER = r"^[A-Za-z0-9._~][A-Za-z0-9._~+/#-]*$"
_URL = r"^(https?://[^ @?#]+|ssh://[^ ?#]+|[A-Za-z0-9_][A-Za-z0-9._-]*@[^ ?#]+)$"

_HOOK = r"^https?://[^ @?#]+([?][^ #]*)?$"
#: Text of plain digits, never JSON's numbers: some readers make floats of those.
_DECIMAL: dict[str, Any] = {"type": "string", "format": "decimal"}

#: By schema and property.
_SAID: dict[str, dict[str, dict[str, Any]]] = {
    "JobSpecAsked": {
        "image": {"pattern": r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$", "examples": ["ubuntu:24.04"]},
    },
    "DataStoreAsked": {"alias": {"pattern": _ALIAS}, "container": {"pattern": _CONTAINER}},
    "PrivateSwiftAsked": {"region": {"pattern": _ALIAS}, "container": {"pattern": _CONTAINER}},
    "VolumeAsked": {"mountPath": {"pattern": "^/", "examples": ["/workspace/data"]}},
    "TokenAsked": {"name": {"minLength": 1, "maxLength": 255, "examples": ["ci"]}},
    "ProjectAsked": {"id": {"pattern": r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"}},
    "StoreAsked": {
        "alias": {"pattern": _ALIAS, "examples": ["GRA"]},
        "endpoint": {"pattern": _URL, "examples": ["https://s3.example.org"]},
    },
    "StoreReplaced": {"endpoint": {"pattern": _URL}},
    "S3KeysAsked": {
        "accessKey": {"minLength": 1, "maxLength": 1024, "pattern": "^[ -~]+$"},
        "secretKey": {"minLength": 1, "maxLength": 1024, "pattern": "^[ -~]+$"},
    },
    "BasicAuthAsked": {
        "username": {"minLength": 1, "maxLength": 255},
        "password": {"minLength": 1, "maxLength": 4096},
    },
    "SshKeypairAsked": {"privateKey": {"minLength": 1, "maxLength": 16_384}},
    "RegistryAsked": {
        "url": {"minLength": 1, "examples": ["https://registry.example.org"]},
        "username": {"minLength": 1},
        "password": {"minLength": 1},
    },
    "WebhookAsked": {"url": {"pattern": _HOOK, "examples": ["https://example.org/hook"]}},
    "WebhookChanged": {"url": {"pattern": _HOOK}},
    "BudgetAsked": {
        "amount": {"anyOf": [_DECIMAL, {"type": "null"}], "examples": ["250"]},
        "warnAt": {"anyOf": [{"type": "array", "items": _DECIMAL}, {"type": "null"}]},
    },
    "LabelEdit": {"name": {"pattern": "^[A-Za-z0-9._/-]+$", "examples": ["team"]}},
}


def add(schemas: dict[str, Any]) -> None:
    """Say it in the schemas, in place. Raises `KeyError` for a field that is not there any more."""
    for name, properties in _SAID.items():
        if name in schemas:
            for wire, said in properties.items():
                schemas[name]["properties"][wire] |= said
