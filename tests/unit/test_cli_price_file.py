"""Prices in files: every number is the text that it is written with."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.cli import price_file
from service.errors import Invalid


def written(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "prices"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def test_yaml_and_json_say_the_same_exactly(tmp_path: Path) -> None:
    """As floats, these prices would be others."""
    yaml = """
    - {flavor: a, hourlyPrice: 0.1000000000000000055, validFrom: 2026-01-01, validTo: null}
    - flavor: b
      hourlyPrice: 1e3
      validFrom: 2026-01-01T00:00:00Z
    """
    text = """[
        {"flavor": "a", "hourlyPrice": 0.1000000000000000055, "validFrom": "2026-01-01", "validTo": null},
        {"flavor": "b", "hourlyPrice": 1e3, "validFrom": "2026-01-01T00:00:00Z"}]"""
    expected = [
        {"flavor": "a", "hourlyPrice": "0.1000000000000000055", "validFrom": "2026-01-01"},
        {"flavor": "b", "hourlyPrice": "1e3", "validFrom": "2026-01-01T00:00:00Z"},
    ]
    for each in (yaml, text, f'{{"entries": {text}}}'):
        assert price_file.book("--price-book", written(tmp_path, each)) == expected
    assert price_file.prices("FILE", written(tmp_path, "a: 0.030\nb: 10")) == {"a": "0.030", "b": "10"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it must hold a list of entries"),
        ("a: 1", "it must hold a list of entries"),
        ("- a", "the file must hold a list of entries"),
        ("- {flavor: {x: 1}}", "the file must hold a list of entries"),
        ("- {flavor: a, flavor: b}", "'flavor' stands twice"),
        ('[{"flavor": "a", "flavor": "b"}]', "'flavor' stands twice"),
        ("- {flavor: a", "this cannot"),
        ("[1, ", "this cannot"),
        ("- {[1]: a}", "this cannot"),
        (b"\xff", "byte 0 is not"),
        ("[" * 100_000, "this cannot"),
        (b" " * (price_file.MOST_BYTES + 1), "at most"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(Invalid, match="--price-book") as refused:
        price_file.book("--price-book", written(tmp_path, text))
    assert said in refused.value.message


@pytest.mark.parametrize("name", ["/not/there", "/", "a\0b"])
def test_files_that_are_not_there(name: str) -> None:
    with pytest.raises(Invalid, match="a file that can be read"):
        price_file.prices("FILE", name)


def test_a_price_list_is_flavors_and_prices(tmp_path: Path) -> None:
    for text in ("- a", "a: {b: 1}", "a: [1]"):
        with pytest.raises(Invalid, match="a price for each flavor"):
            price_file.prices("FILE", written(tmp_path, text))
