import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.green.redaction import redacted

# Other work on the machine must not fail a test.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SECRET = "s3cr3tValue"


@pytest.mark.parametrize(
    "text",
    [
        f"server string to sign is:POST\nx-acs-security-token:{SECRET}",
        f"Server String To Sign is: {SECRET} and more {SECRET}",
        f"StringToSign: {SECRET}",
        f"x-acs-security-token:{SECRET}",
        f"SecurityToken={SECRET}",
        f'"security_token": "{SECRET}"',
        f"Authorization: {SECRET}",
        f"ACS3-HMAC-SHA256 Credential=a,SignedHeaders=b,Signature={SECRET}",
        f"acs LTAIkey:{SECRET}=",
        f"AccessKeySecret={SECRET}",
        f"token {SECRET * 5}",
        f"signature was {(SECRET * 3)[:27]}=",
    ],
)
def test_secrets_go(text: str) -> None:
    assert SECRET not in redacted(text)


def test_ids_go_where_they_stand_alone() -> None:
    text = redacted("a 1 is not 12, but b-1 or (1); a!", persons=["a"], faces=["1"])
    assert text == "<person> <face> is not 12, but b-1 or (<face>); <person>!"


def test_one_printable_line() -> None:
    assert redacted("a\r\nb\x1b[31m\u2028c\ud800") == "a b [31m c"
    assert redacted("word " * 100) == ("word " * 60)[:299] + "…"


def test_a_long_text_is_not_cut_within_an_id_or_a_secret() -> None:
    # What is taken out first makes room for what stands at the cut.
    filling = "authorization:" + "x" * 9_900 + " " + "y" * 60 + " "
    for word in ("31842550077981745", "a+b/31842550077981745="):
        text = redacted(filling + word * 4, faces=["31842550077981745"])
        assert text == "authorization:<redacted> <redacted>"
    kept = redacted(filling + "a b", faces=["b"])
    assert kept == "authorization:<redacted> <redacted> a <face>"


def test_exactly_the_limit_is_kept_whole() -> None:
    assert redacted("é " * 150) == ("é " * 150).rstrip()
    assert redacted("é" * 300) == "é" * 300
    assert redacted("é" * 301) == "é" * 299 + "…"


@unhurried
@given(st.text(), st.lists(st.text(max_size=3)), st.lists(st.text(max_size=3)))
def test_any_text(text: str, persons: list[str], faces: list[str]) -> None:
    line = redacted(text, persons=persons, faces=faces)
    assert len(line) <= 300
    assert line.isprintable()
    line.encode()
