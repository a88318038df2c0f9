"""Requests: what a body, a query and a header say, against independent parsers, and what is refused."""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import parse_qsl, quote_plus, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authsvc.errors import InvalidClient, InvalidRequest, InvalidScope, UnsupportedMediaType
from authsvc.http.request import (
    Head,
    Request,
    accepted_request_id,
    basic_credentials,
    form_parameters,
    json_parameters,
    new_request_id,
    scopes,
)
from authsvc.tokens import Credentials

FORM = b"application/x-www-form-urlencoded"
JSON = b"application/json"

words = st.text("ab09 +%&=;:/?#\"'\\<>~._-\t\r\n\x7f\x80\xa0éßЖ漢\u2028\ufeff\uffff\U0001f600\U0010ffff", max_size=20)
pairs = st.lists(st.tuples(words, words), max_size=8, unique_by=lambda pair: pair[0])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


def request(
    body: bytes = b"",
    content_type: bytes | None = FORM,
    authorization: bytes | None = None,
    query: bytes = b"",
) -> Request:
    return Request(Head("POST", query, authorization, content_type), body, b"id")


def basic(text: str) -> bytes:
    return b"Basic " + base64.b64encode(text.encode())


# Forms


@given(pairs)
def test_a_form_says_what_urllib_reads_in_it(given_pairs: list[tuple[str, str]]) -> None:
    text = urlencode(given_pairs).encode()
    assert form_parameters(text) == {name: value for name, value in given_pairs if value}
    assert form_parameters(text) == dict(parse_qsl(text.decode()))


@given(pairs)
def test_a_form_may_be_spelled_in_full_or_not_at_all(given_pairs: list[tuple[str, str]]) -> None:
    """Every byte as %XX in either case, and UTF-8 bytes as they are."""
    expected = {name: value for name, value in given_pairs if value}
    for letters in ("02X", "02x"):
        text = "&".join("=".join("".join(f"%{byte:{letters}}" for byte in word.encode()) for word in pair) for pair in given_pairs)
        assert form_parameters(text.encode()) == expected
    plain = [(re.sub("[%+&=]", "", name) + str(number), re.sub("[%+&=]", "", value)) for number, (name, value) in enumerate(given_pairs)]
    text = "&".join("=".join(pair) for pair in plain)
    assert form_parameters(text.encode()) == {name: value for name, value in plain if value}


@given(st.one_of(st.binary(max_size=200), st.text("a=&+%0fF;\x00é", max_size=40).map(str.encode)))
@example(b"%")
@example(b"%f")
@example(b"%zz=%zz")
@example(b"a=%ff")
@example(b"\xff=a")
@example(b"&&=&=a&")
def test_any_bytes_are_a_form_or_an_invalid_request(text: bytes) -> None:
    try:
        parameters = form_parameters(text)
    except InvalidRequest:
        return
    read = parse_qsl(text.decode("utf-8"), keep_blank_values=True, errors="strict")
    assert len({name for name, _ in read}) == len(read)
    assert parameters == {name: value for name, value in read if value}


@pytest.mark.parametrize(
    "text", [b"a=1&a=2", b"a=1&a=1", b"a=&a=1", b"a=1&a", b"a&a", b"a=1&%61=2", b"scope=x&b=1&scope=y", b"=1&=2", b"a+b=1&a%20b=1"]
)
def test_a_repeated_form_parameter_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequest, match="twice"):
        form_parameters(text)


@pytest.mark.parametrize("text", [b"a=%00", b"a=\x00", b"%00=a", b"a=%ff", b"a=\xff", b"\xc3=a", b"a=%C3", b"a=%ED%A0%80"])
def test_nul_and_what_is_not_utf_8_are_refused_in_a_form(text: bytes) -> None:
    with pytest.raises(InvalidRequest):
        form_parameters(text)


def test_an_empty_form_parameter_counts_as_absent() -> None:
    assert form_parameters(b"scope=&client_id&token=t") == {"token": "t"}


# JSON


@given(st.dictionaries(words, words, max_size=8))
def test_json_says_what_it_was_made_of(members: dict[str, str]) -> None:
    expected = {name: value for name, value in members.items() if value}
    assert json_parameters(json.dumps(members).encode()) == expected
    assert json_parameters(json.dumps(members, ensure_ascii=False, indent=1).encode()) == expected


@given(pairs)
def test_a_form_and_json_say_the_same(given_pairs: list[tuple[str, str]]) -> None:
    as_form = request(urlencode(given_pairs).encode(), FORM).parameters()
    as_json = request(json.dumps(dict(given_pairs)).encode(), JSON).parameters()
    assert as_form == as_json


@given(st.one_of(st.binary(max_size=100), st.text('{}[]",:\\u0d8e1nulltrue -.\x00', max_size=40).map(str.encode)))
def test_any_bytes_are_json_or_an_invalid_request(text: bytes) -> None:
    try:
        parameters = json_parameters(text)
    except InvalidRequest:
        return
    assert all(isinstance(part, str) for pair in parameters.items() for part in pair)


@given(st.dictionaries(st.sampled_from(["scope", "token", "client_id", "x", "y"]), json_values, max_size=5))
def test_any_json_object_gives_strings_or_an_invalid_request(members: dict[str, object]) -> None:
    known_and_no_string = [name for name, value in members.items() if len(name) > 1 and value is not None and not isinstance(value, str)]
    text = json.dumps(members).encode()
    if known_and_no_string:
        with pytest.raises(InvalidRequest, match="must be a string"):
            json_parameters(text)
    else:
        assert json_parameters(text) == {name: value for name, value in members.items() if isinstance(value, str) and value}


@pytest.mark.parametrize(
    "text",
    [
        b'{"scope":"a","scope":"b"}',
        b'{"scope":"a","scope":"a"}',
        b'{"scope":null,"scope":"a"}',
        b'{"scope":"","scope":"a"}',
        b'{"sc\\u006fpe":"a","scope":"b"}',
        b'{"x":1,"x":2}',
        b'{"x":1,"x":"a"}',
    ],
)
def test_a_repeated_json_member_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequest, match="twice"):
        json_parameters(text)


@pytest.mark.parametrize("value", [b"1", b"1.5", b"true", b"false", b"[]", b'["a"]', b"{}", b'{"a":"b"}', b"1" * 9000, b"1e999", b"-0"])
@pytest.mark.parametrize("name", [b"grant_type", b"scope", b"client_id", b"client_secret", b"token", b"token_type_hint"])
def test_a_member_of_ours_must_be_a_string(name: bytes, value: bytes) -> None:
    with pytest.raises(InvalidRequest):
        json_parameters(b'{"%b":%b}' % (name, value))


def test_null_counts_as_absent_and_unknown_members_are_ignored() -> None:
    assert json_parameters(b'{"scope":null,"more":{"a":[1,2.5,{"a":null}]},"n":12345678901234567890,"token":"t"}') == {"token": "t"}


@pytest.mark.parametrize("text", [b"[]", b'"a"', b"1", b"null", b"true", b'[["token","t"]]', b'[{"token":"t"}]'])
def test_json_must_be_an_object(text: bytes) -> None:
    with pytest.raises(InvalidRequest, match="object"):
        json_parameters(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{",
        b'{"token":"t"',
        b'{"token":"t"}}',
        b'{"token":"t"} x',
        b"{'token':'t'}",
        b'{"token":"t",}',
        b'{token:"t"}',
        b'\xef\xbb\xbf{"token":"t"}',
        b'{"token":"\xff"}',
        b'{"token":"a\nb"}',
        b'{"n":' + b"1" * 9000 + b"}",
        '{"token":"t"}'.encode("utf-16"),
    ],
)
def test_what_is_not_json_is_an_invalid_request(text: bytes) -> None:
    with pytest.raises(InvalidRequest):
        json_parameters(text)


@pytest.mark.parametrize(
    "text", [b"[" * 16000, b'{"a":' * 3000, b'{"a":' * 2000 + b"1" + b"}" * 2000, b'{"a":' + b"[" * 8000 + b"]" * 8000 + b"}"]
)
def test_a_nesting_bomb_is_an_invalid_request(text: bytes) -> None:
    with pytest.raises(InvalidRequest):
        json_parameters(text)


@pytest.mark.parametrize("value", [rb"\u0000", rb"a\u0000b", rb"\ud800", rb"\udfff", rb"\udc00\ud800", rb"a\ud83d"])
def test_nul_and_lone_surrogates_are_refused_in_json(value: bytes) -> None:
    with pytest.raises(InvalidRequest):
        json_parameters(b'{"token":"%b"}' % value)


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert json_parameters(rb'{"token":"\ud83d\ude00"}') == {"token": "\U0001f600"}


# Content types


@pytest.mark.parametrize("content_type", [FORM, FORM.upper(), FORM + b";charset=UTF-8", b" " + FORM + b" ; charset=utf-8"])
def test_a_form_is_told_by_its_content_type(content_type: bytes) -> None:
    assert request(b"token=%7B", content_type).parameters() == {"token": "{"}


@pytest.mark.parametrize("content_type", [JSON, b"Application/JSON", JSON + b"; charset=utf-8"])
def test_json_is_told_by_its_content_type(content_type: bytes) -> None:
    assert request(b'{"token":"t"}', content_type).parameters() == {"token": "t"}


@pytest.mark.parametrize(
    "content_type",
    [None, b"", b"text/plain", b"multipart/form-data; boundary=x", b"application/jsonx", b"application/json, text/plain", b"\xff"],
)
def test_any_other_content_type_is_refused(content_type: bytes | None) -> None:
    with pytest.raises(UnsupportedMediaType):
        request(b"token=t", content_type).parameters()


@pytest.mark.parametrize("content_type", [None, b"text/plain", JSON])
def test_no_body_has_no_parameters_whatever_its_type(content_type: bytes | None) -> None:
    assert request(b"", content_type).parameters() == {}


# The query string


@pytest.mark.parametrize("name", ["token", "access_token", "client_secret"])
@pytest.mark.parametrize("spelled", ["{}=x", "scope=a&{}=x", "%{:02x}{}=x"])
def test_a_secret_in_the_query_string_is_refused(name: str, spelled: str) -> None:
    text = spelled.format(ord(name[0]), name[1:]) if spelled.startswith("%") else spelled.format(name)
    with pytest.raises(InvalidRequest, match=f"{name} must not"):
        request(query=text.encode()).query_parameters()


def test_a_query_is_read_as_a_form() -> None:
    assert request(query=b"scope=read+write&x=%C3%A9").query_parameters() == {"scope": "read write", "x": "é"}
    assert request().query_parameters() == {}


@pytest.mark.parametrize("query", [b"scope=a&scope=b", b"scope=%00", b"scope=%ff"])
def test_a_query_is_refused_as_a_form_is(query: bytes) -> None:
    with pytest.raises(InvalidRequest):
        request(query=query).query_parameters()


# Bearer tokens


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER", b"bEaReR"])
@pytest.mark.parametrize("space", [b" ", b"   "])
def test_a_bearer_token_is_read_whatever_the_case_of_its_scheme(scheme: bytes, space: bytes) -> None:
    assert request(authorization=scheme + space + b"at_Token").bearer == b"at_Token"
    assert request(authorization=scheme + space + b"at_Token ").bearer == b"at_Token"


@pytest.mark.parametrize("authorization", [None, b"", b"Basic YTpi", b"Bearerat_x", b"Digest x", b"Token Bearer x"])
def test_no_bearer_token_where_there_is_none(authorization: bytes | None) -> None:
    assert request(authorization=authorization).bearer is None


@pytest.mark.parametrize("authorization", [b"Bearer", b"Bearer ", b"Bearer   "])
def test_a_bearer_scheme_without_a_token_is_an_empty_token_and_not_none(authorization: bytes) -> None:
    """So that it is judged as a bad token, never as no authentication at all."""
    assert request(authorization=authorization).bearer == b""


# Client authentication


def credentials(body: dict[str, str] | None = None, authorization: bytes | None = None) -> Credentials:
    parsed = request(urlencode(body or {}).encode(), authorization=authorization)
    return parsed.credentials(parsed.parameters())


@given(words, words)
def test_basic_credentials_are_form_encoded_halves(client_id: str, secret: str) -> None:
    encoded = base64.b64encode(f"{quote_plus(client_id)}:{quote_plus(secret)}".encode())
    assert basic_credentials(encoded) == Credentials(client_id, secret.encode())


@pytest.mark.parametrize(
    ("text", "client_id", "secret"),
    [
        ("app:s3cret", "app", b"s3cret"),
        ("app:a:b:c", "app", b"a:b:c"),
        ("app:a%3Ab%25", "app", b"a:b%"),
        ("a%70p:a+b", "app", b"a b"),
        ("app:a%2Bb", "app", b"a+b"),
        ("app:a%20b", "app", b"a b"),
        ("a%3Aapp:x", "a:app", b"x"),
        ("app:", "app", b""),
        (":x", "", b"x"),
        ("app:%C3%A9", "app", "é".encode()),
        ("app:é", "app", "é".encode()),
    ],
)
def test_basic_credentials_are_decoded_as_rfc_6749_says(text: str, client_id: str, secret: bytes) -> None:
    assert credentials(authorization=basic(text)) == Credentials(client_id, secret)


@pytest.mark.parametrize("scheme", [b"Basic", b"basic", b"BASIC"])
def test_the_case_of_the_basic_scheme_does_not_matter(scheme: bytes) -> None:
    assert credentials(authorization=scheme + b" " + base64.b64encode(b"app:x")) == Credentials("app", b"x")


@pytest.mark.parametrize("value", [b"", b"!", b"YTpi!", b"YTp", b"YTpi YTpi", b"\xff\xfe", b"YXBw", b"YQ=="])
def test_basic_credentials_that_cannot_be_read_are_an_invalid_client(value: bytes) -> None:
    with pytest.raises(InvalidClient):
        credentials(authorization=b"Basic " + value)


@given(st.binary(max_size=60))
def test_any_basic_credentials_are_read_or_refused(value: bytes) -> None:
    for text in (value, base64.b64encode(value)):
        try:
            found = basic_credentials(text)
        except (InvalidClient, InvalidRequest):
            continue
        assert isinstance(found.client_id, str)
        assert isinstance(found.secret, bytes)


def test_a_client_may_authenticate_in_the_body() -> None:
    assert credentials({"client_id": "app", "client_secret": "s é"}) == Credentials("app", "s é".encode())


@pytest.mark.parametrize("body", [{}, {"client_id": "app"}, {"client_secret": "x"}, {"client_id": "app", "client_secret": ""}])
def test_half_an_authentication_is_an_invalid_client(body: dict[str, str]) -> None:
    with pytest.raises(InvalidClient):
        credentials(body)


@pytest.mark.parametrize("authorization", [basic("app:x"), b"Bearer at_x", b"Digest x"])
@pytest.mark.parametrize("body", [{"client_secret": "x"}, {"client_id": "app", "client_secret": "x"}])
def test_two_ways_at_once_are_an_invalid_request(authorization: bytes, body: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="two ways"):
        credentials(body, authorization)


def test_a_client_id_beside_basic_is_accepted_when_it_is_the_same() -> None:
    assert credentials({"client_id": "app"}, basic("app:x")) == Credentials("app", b"x")
    assert credentials({"client_id": "app", "client_secret": ""}, basic("app:x")) == Credentials("app", b"x")
    assert credentials({"client_id": "a p"}, basic("a+p:x")) == Credentials("a p", b"x")


@pytest.mark.parametrize("client_id", ["other", "APP", "app "])
def test_another_client_id_beside_basic_is_an_invalid_request(client_id: str) -> None:
    with pytest.raises(InvalidRequest, match="client_id"):
        credentials({"client_id": client_id}, basic("app:x"))


@pytest.mark.parametrize("authorization", [b"Bearer at_x", b"Digest x", b"x", b""])
def test_any_other_scheme_does_not_authenticate_a_client(authorization: bytes) -> None:
    with pytest.raises(InvalidClient):
        credentials(authorization=authorization)


# Scopes

SCOPE_CHARACTERS = "".join(chr(code) for code in (0x21, *range(0x23, 0x5C), *range(0x5D, 0x7F)))
scope_tokens = st.text(SCOPE_CHARACTERS, min_size=1, max_size=64)


@given(st.lists(scope_tokens, min_size=1, max_size=32))
def test_scopes_are_distinct_and_keep_their_order(tokens: list[str]) -> None:
    assert scopes(" ".join(tokens)) == tuple(dict.fromkeys(tokens))


def test_no_scope_parameter_asks_for_none_by_name() -> None:
    assert scopes(None) == ()


@pytest.mark.parametrize("code", range(0x21, 0x7F))
def test_a_scope_takes_exactly_the_characters_of_rfc_6749(code: int) -> None:
    text = f"a{chr(code)}"
    if chr(code) in '"\\':
        with pytest.raises(InvalidScope):
            scopes(text)
    else:
        assert scopes(text) == (text,)


@pytest.mark.parametrize("text", ["", " ", " a", "a ", "a  b", "a\tb", "a\n", "a\r\nb", "\x7f", "\x1f", "é", "a\u00a0b", "a\u2028"])
def test_a_malformed_scope_is_refused(text: str) -> None:
    with pytest.raises(InvalidScope):
        scopes(text)


def test_a_scope_has_at_most_64_characters() -> None:
    assert scopes("x" * 64) == ("x" * 64,)
    with pytest.raises(InvalidScope):
        scopes("x" * 65)
    with pytest.raises(InvalidScope):
        scopes("a " + "x" * 65)


def test_at_most_32_distinct_scopes_are_asked_for() -> None:
    names = [f"s{number}" for number in range(33)]
    assert scopes(" ".join(names[:32])) == tuple(names[:32])
    assert scopes(" ".join(names[:32] + names[:32])) == tuple(names[:32])
    with pytest.raises(InvalidScope):
        scopes(" ".join(names))


# Request ids


@given(st.from_regex(rb"[A-Za-z0-9._-]{1,64}", fullmatch=True))
def test_a_good_request_id_is_kept(given_id: bytes) -> None:
    assert accepted_request_id(given_id) == given_id


@pytest.mark.parametrize(
    "given_id", [None, b"", b"x" * 65, b"a b", b"a\n", b"\n", b"a\r\nX-Evil: 1", b"a/b", b"a:b", b"\xff", b"a\x00", b'"', b"{}"]
)
def test_any_other_request_id_is_replaced(given_id: bytes | None) -> None:
    made = accepted_request_id(given_id)
    assert made != given_id
    assert re.fullmatch(rb"[A-Za-z0-9._-]{1,64}", made)


@given(st.binary(max_size=80))
def test_a_request_id_is_always_safe_to_echo(given_id: bytes) -> None:
    assert re.fullmatch(rb"[A-Za-z0-9._-]{1,64}", accepted_request_id(given_id))


def test_request_ids_do_not_repeat() -> None:
    assert len({new_request_id() for _ in range(1000)}) == 1000


@given(st.binary(max_size=12) | st.text(alphabet="=&+%a\x00é~", max_size=8).map(str.encode))
@example(b"")
@example(b"a")
@example(b"a=b")
@example(b"a&token=b")
@example(b"a%20b")
def test_a_form_with_nothing_but_a_token_is_read_as_any_form(value: bytes) -> None:
    asked = request(b"token=" + value)
    token = asked.only_token()
    if token is not None:
        assert asked.parameters() == {"token": token.decode("ascii")}


def test_most_tokens_are_read_at_once_and_what_is_else_is_not() -> None:
    def only(body: bytes, content_type: bytes = FORM) -> bytes | None:
        return request(body, content_type).only_token()

    assert only(b"token=at_AZaz09-_") == b"at_AZaz09-_"
    assert [only(body) for body in (b"", b"token=", b"token", b"token=a&scope=b", b"scope=a", b"xtoken=a")] == [None] * 6
    assert only(b"token=a", b"application/json") is None
