import pytest

from worker.green.hints import retry_after_seconds, server_time_us

NOON = "Mon, 23 Nov 2026 12:00:00 GMT"
NOON_US = 1_795_435_200_000_000


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "9" * 500}, 300),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1_0"}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:30 GMT"}, 30),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:30 GMT", "date": "garbage"}, 30),
        # The server's own clock is 20 minutes ahead, and its dates are in its own time.
        (
            {
                "retry-after": "Mon, 23 Nov 2026 12:20:10 GMT",
                "date": "Mon, 23 Nov 2026 12:20:00 GMT",
            },
            10,
        ),
        ({"retry-after": "Mon, 23 Nov 2026 11:00:00 GMT"}, 0),
        ({"retry-after": "Mon, 23 Nov 9999 11:00:00 GMT"}, 300),
        ({"retry-after": "Mon, 99 Nov 2026 11:00:00 GMT"}, None),
        ({"x-acs-retry-after": "2500"}, 2.5),
        ({"x-acs-retry-after": "x"}, None),
        ({"x-acs-retry-after": "x", "retry-after": "3"}, 3),
        ({"x-acs-retry-after": "2500", "retry-after": "3"}, 3),
        ({"x-acs-retry-after": "2500", "retry-after": "1"}, 2.5),
    ],
    ids=repr,
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers, NOON_US, 300) == seconds


def test_server_time() -> None:
    assert server_time_us({"date": NOON}) == NOON_US
    assert server_time_us({"date": "Mon, 23 Nov 2026 12:00:00 -0000"}) == NOON_US
    assert server_time_us({}) is None
