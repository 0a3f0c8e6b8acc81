"""Law of the fast parser of FETCH answers: the same result as imapclient's lexer, or none."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from imapclient.response_parser import parse_fetch_response

from services.imap.fetch_answers import from_lexer, parse_fast

FORMS = st.fixed_dictionaries(
    {
        b"UID": st.integers(1, 4_294_967_295).map(lambda uid: str(uid).encode()),
        b"INTERNALDATE": st.sampled_from([b'" 1-Nov-2026 09:08:07 +0800"', b'"17-Feb-2025 23:59:59 -0530"', b"NIL"]),
        b"RFC822.SIZE": st.integers(0, 10**9).map(lambda size: str(size).encode()),
        b"FLAGS": st.sampled_from([b"()", b"(\\Seen)", b"(\\Seen \\Draft $Label)", b"(\\DRAFT)"]),
        b"SAVEDATE": st.sampled_from([b"NIL", b'" 1-Nov-2026 09:08:07 +0000"', b'"31-Feb-2026 09:08:07 +0000"']),
    }
)


@given(st.lists(FORMS, min_size=1, max_size=4, unique_by=lambda form: form[b"UID"]), st.randoms(use_true_random=False))
def test_the_fast_parser_agrees_with_the_lexer(forms: list[dict[bytes, bytes]], chance: Random) -> None:
    """Attributes in any order before and after the literal: parsed alike, or left to the lexer."""
    data: list[object] = []
    for sequence, form in enumerate(forms, 1):
        literal = f"Subject: {sequence} (UID 7)\r\n\r\n".encode()
        attributes = [name + b" " + value for name, value in form.items()]
        chance.shuffle(attributes)
        cut = chance.randint(0, len(attributes))
        head = b" ".join([*attributes[:cut], b"BODY[HEADER.FIELDS (SUBJECT)]<0> {%d}" % len(literal)])
        data.append((b"%d (" % sequence + head, literal))
        data.append(b"".join(b" " + attribute for attribute in attributes[cut:]) + b")")
    answer = parse_fetch_response(list(data), normalise_times=False)
    headers = parse_fast(data)
    if any(form[b"INTERNALDATE"] == b"NIL" for form in forms):
        assert headers is None
    else:
        assert headers == {uid: from_lexer(uid, attributes) for uid, attributes in answer.items()}
