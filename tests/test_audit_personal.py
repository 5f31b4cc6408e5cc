"""Personal data by its form: what has a check is checked, and what only looks like it is left alone."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.audit.personal import find, masked


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("mail ada.lovelace+x@mail.example.co.uk.", ["e-mail"]),
        ("Ask exämple@bücher.de!", ["e-mail"]),
        ("+44 20 7946 0958", ["phone"]),
        ("call 0044 20 7946 0958 now", ["phone"]),
        ("+49 (0)30 1234567", ["phone"]),
        ("+15551234567", ["phone"]),
        ("Tel. 030/1234567, or 0171-1234567", ["phone", "phone"]),
        ("text WIN to 09061701461", ["phone"]),
        ("(212) 555-0147 or 212-555-0147 or 1-212-555-0147", ["phone", "phone", "phone"]),
        ("GB82 WEST 1234 5698 7654 32 and more", ["iban"]),
        ("iban:de89370400440532013000", ["iban"]),
        ("4111-1111-1111-1111", ["card"]),
        ("amex 378282246310005", ["card"]),
        ("from 192.168.2.17, 2001:db8::8a2e:370:7334", ["ip address", "ip address"]),
        ("GB82 WEST 1234 5698 7654 32, ada@example.org, 8.8.8.8", ["iban", "e-mail", "ip address"]),
    ],
)
def test_found(text: str, kinds: list[str]) -> None:
    assert [hit.kind for hit in find(text)] == kinds


@pytest.mark.parametrize(
    "text",
    [
        "GB82 WEST 1234 5698 7654 33",  # mod 97 fails
        "GB82 WEST 1234 5698 7654",  # too short for its country
        "4111 1111 1111 1112",  # Luhn fails
        "1234567812345670",  # Luhn holds, and no issuer has it
        "0000 0000 0000 0000",
        "on 2024-01-02, 01.02.2024, 1/2/24 or 01.02.2024 12:30",
        "12:30:45 and 10:11",
        "version 1.2.3.4, section 1.2.3.4.5, 999.1.1.1, 127.0.0.1",
        "1,234,567.89 or 0.12345678 or 3.14159265358979",
        "order 12345678, invoice 2024-000123",
        "a@b, @name, name@, me@localhost",
        "std::vector and ::",
        "years 1990-2020, pages 100-200",
        "",
    ],
)
def test_left_alone(text: str) -> None:
    assert find(text) == []


@given(st.text(st.characters(codec="utf-8"), max_size=40), st.integers(0, 10**17), st.text(max_size=40))
def test_an_iban_is_found_and_with_a_digit_changed_it_is_not(before: str, number: int, after: str) -> None:
    body = f"{number:018d}"
    check = 98 - int(f"{body}131400") % 97  # DE as numbers, and the two places of the check
    iban = f"DE{check:02d}{body}"
    hit = next(each for each in find(f"{before} {iban} {after}") if each.kind == "iban")
    assert iban in f"{before} {iban} {after}"[hit.start : hit.end]
    wrong = f"DE{check:02d}{(number + 1) % 10**18:018d}"
    assert all(each.kind != "iban" for each in find(f" {wrong} "))


@given(st.text(alphabet=st.sampled_from("0123456789+-.:@ /()abDEGB"), max_size=120))
def test_any_text_is_masked_without_a_fault_and_what_is_masked_holds_nothing_more(text: str) -> None:
    hits = find(text)
    assert all(one.end <= other.start for one, other in pairwise(hits))
    assert all(0 <= hit.start < hit.end <= len(text) for hit in hits)
    once = masked(text)
    assert once.count("[") >= len(hits)
