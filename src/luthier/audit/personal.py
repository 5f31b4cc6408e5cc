"""Personal data: e-mail addresses, phone numbers, IBANs, payment cards and IP addresses in a text, found by their form.

From "Call +44 20 7946 0958 or mail ada@example.org" to a phone at 5-21 and an e-mail address at 30-45. What has a
check is checked: IBANs by ISO 7064 mod 97 and their country's length, cards by Luhn and their issuer's prefix, IP
addresses by their ranges. Names, postal addresses and birthdays have no form and are not found.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# the length of an IBAN by country (SWIFT's registry)
_IBAN_LENGTHS = {
    found[1]: int(found[2])
    for found in re.finditer(
        r"(\w\w):(\d\d)",
        "AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BI:27 BR:29 BY:28 CH:21 CR:22 CY:28 CZ:24 DE:22 DJ:27 "
        "DK:18 DO:28 EE:20 EG:29 ES:24 FI:18 FK:18 FO:18 FR:27 GB:22 GE:22 GI:23 GL:18 GR:27 GT:28 HN:28 HR:21 HU:28 "
        "IE:22 IL:23 IQ:23 IS:26 IT:27 JO:30 KW:30 KZ:20 LB:28 LC:32 LI:21 LT:20 LU:20 LV:21 LY:25 MC:27 MD:24 ME:22 "
        "MK:19 MN:20 MR:27 MT:31 MU:30 NI:28 NL:18 NO:15 OM:23 PK:24 PL:28 PS:29 PT:25 QA:29 RO:24 RS:22 RU:33 SA:24 "
        "SC:31 SD:18 SE:24 SI:19 SK:24 SM:27 SO:23 ST:25 SV:28 TL:23 TN:24 TR:26 UA:29 VA:22 VG:24 XK:20 YE:30",
    )
}
_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?![\w-])")
_IBAN = re.compile(r"(?<![^\W_])([A-Za-z]{2})\d{2}(?=[ -]?[A-Za-z0-9])")
_CARD = re.compile(r"(?<![\w.,-])\d(?:[ -]?\d){11,18}(?![\w]|[.,-]\d)")
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(rf"(?<![\w.])(?<!version )(?:{_OCTET}\.){{3}}{_OCTET}(?!\w|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")
# no digit may follow, nor a group of them: what is longer is something else
_END = r"(?!\w|[ .,/-]?\d)"
_PHONES = (
    # with its country: +49 (0)30 1234567, 0044 20 7946 0958
    re.compile(r"(?<![\w+])(?:\+|00)[1-9]\d{0,2}[ ./-]{0,2}(?:\(0?\d{1,4}\)[ ./-]?)?\d(?:[ ./-]?\d){4,12}" + _END),
    # with its area: 030 1234567, (020) 7946 0958, 09061701461
    re.compile(r"(?<![\w.,+/-])(?:\(0\d{1,4}\)|0\d{1,4})[ ./-]{0,2}\d(?:[ ./-]?\d){4,10}" + _END),
    # North America: (212) 555-0147, 212-555-0147, 1-212-555-0147
    re.compile(r"(?<![\w.,+/-])(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .-])[2-9]\d{2}[ .-]\d{4}" + _END),
)
_DATE = re.compile(r"\d{1,2}([./-])\d{1,2}\1\d{2,4}(?!\d)|\d{4}([./-])\d{1,2}\2\d{1,2}(?!\d)|00?\d:\d\d")


@dataclass(frozen=True, slots=True)
class Hit:
    """Where in a text there is personal data of which kind."""

    kind: str
    start: int
    end: int


def find(text: str) -> list[Hit]:
    """The personal data of a text in its order; no two overlap.

    >>> [hit.kind for hit in find("from 8.8.8.8: pay GB82 WEST 1234 5698 7654 32 with 4111 1111 1111 1111")]
    ['ip address', 'iban', 'card']
    >>> find("order 4111 1111 1111 1112 of 2024-01-02, version 1.2.3.4, 12:30:45, 1,234,567.89")
    []
    """
    found: list[Hit] = []
    if "@" not in text and not any(map(str.isdecimal, text)) and "::" not in text:
        return found
    for kind, search in _SEARCHES.items():
        for start, end in search(text):
            if all(end <= other.start or start >= other.end for other in found):
                found.append(Hit(kind, start, end))
    return sorted(found, key=lambda hit: hit.start)


def masked(text: str) -> str:
    """The text with a word in place of each piece of personal data.

    >>> masked("Call (212) 555-0147 or mail ada@example.org.")
    'Call [PHONE] or mail [EMAIL].'
    """
    parts, last = [], 0
    for hit in find(text):
        parts += [text[last : hit.start], f"[{hit.kind.removesuffix(' address').replace('-', '').upper()}]"]
        last = hit.end
    return "".join([*parts, text[last:]])


# ---------------------------------------------------------------- one search a kind

Spans = Iterator[tuple[int, int]]


def _emails(text: str) -> Spans:
    return (match.span() for match in _EMAIL.finditer(text)) if "@" in text else iter(())


def _ibans(text: str) -> Spans:
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(match[1].upper(), 0)
        end = _after(text, match.start(), length)
        if end is None or (end < len(text) and text[end].isalnum()):
            continue
        code = re.sub("[ -]", "", text[match.start() : end]).upper()
        if _mod_97(code) == 1:
            yield match.start(), end


def _after(text: str, start: int, length: int) -> int | None:
    """Where the first `length` letters and digits from `start` end, single separators between them allowed."""
    at, taken = start, 0
    while taken < length and at < len(text):
        if text[at] in " -" and taken and text[at - 1] not in " -":
            at += 1
        elif text[at].isascii() and text[at].isalnum():
            at, taken = at + 1, taken + 1
        else:
            return None
    return at if length and taken == length else None


def _mod_97(iban: str) -> int:
    """ISO 7064: the first four signs last, letters as numbers from 10.

    >>> _mod_97("GB82WEST12345698765432")
    1
    """
    return int("".join(str(int(sign, 36)) for sign in iban[4:] + iban[:4])) % 97


def _cards(text: str) -> Spans:
    for match in _CARD.finditer(text):
        digits = [int(sign) for sign in match[0] if sign.isdecimal()]
        if _issued(digits) and _luhn(digits) and len(set(digits)) > 1:
            yield match.span()


def _issued(digits: list[int]) -> bool:
    """Whether an issuer gives out such numbers: prefix and length of Visa, Mastercard, Amex, Discover, JCB, Maestro."""
    n, two, four = len(digits), digits[0] * 10 + digits[1], int("".join(map(str, digits[:4])))
    return (
        (digits[0] == 4 and n in (13, 16, 19))
        or ((51 <= two <= 55 or 2221 <= four <= 2720) and n == 16)
        or (two in (34, 37) and n == 15)
        or (two in (30, 36, 38, 39) and 14 <= n <= 19)
        or ((two in (35, 60, 62, 64, 65)) and 16 <= n <= 19)
        or ((two == 50 or 56 <= two <= 69) and 12 <= n <= 19)
    )


def _luhn(digits: list[int]) -> bool:
    """
    >>> _luhn([int(sign) for sign in "4111111111111111"]), _luhn([int(sign) for sign in "4111111111111112"])
    (True, False)
    """
    doubled = [
        digit if at % 2 == 0 else (2 * digit - 9 if digit > 4 else 2 * digit) for at, digit in enumerate(digits[::-1])
    ]
    return sum(doubled) % 10 == 0


def _ip_addresses(text: str) -> Spans:
    if text.count(".") >= 3:
        for match in _IPV4.finditer(text):
            address = ipaddress.IPv4Address(match[0])
            if not (address.is_unspecified or address.is_loopback):
                yield match.span()
    if text.count(":") >= 2:
        for match in _IPV6.finditer(text):
            try:
                sixth = ipaddress.IPv6Address(match[0])
            except ValueError:
                continue
            if not (sixth.is_unspecified or sixth.is_loopback) and sum(map(str.isalnum, match[0])) >= 4:
                yield match.span()


def _phones(text: str) -> Spans:
    for pattern in _PHONES:
        for match in pattern.finditer(text):
            digits = [sign for sign in match[0] if sign.isdecimal()]
            if 8 <= len(digits) <= 15 and len(set(digits)) > 1 and not _DATE.match(match[0]):
                yield match.span()


# the ones with the strictest checks first: a part of an IBAN may look like a phone number
_SEARCHES: dict[str, Callable[[str], Spans]] = {
    "e-mail": _emails,
    "iban": _ibans,
    "card": _cards,
    "ip address": _ip_addresses,
    "phone": _phones,
}
KINDS = tuple(_SEARCHES)
