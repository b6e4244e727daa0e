import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.errors import FacepurgeError, GateClosed, UsageRefused
from worker.green.endpoint import Endpoint, resolve_endpoint, resolve_sts

# Other work on the machine must not fail a test.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SHANGHAI = "green.cn-shanghai.aliyuncs.com"


@pytest.mark.parametrize(
    ("region", "network", "endpoint", "expected"),
    [
        ("cn-shanghai", "public", "", Endpoint(f"https://{SHANGHAI}", SHANGHAI, loopback=False)),
        (
            "cn-beijing",
            "vpc",
            "",
            Endpoint(
                "https://green-vpc.cn-beijing.aliyuncs.com",
                "green-vpc.cn-beijing.aliyuncs.com",
                loopback=False,
            ),
        ),
        ("", "public", SHANGHAI, Endpoint(f"https://{SHANGHAI}", SHANGHAI, loopback=False)),
        (
            "cn-shanghai",
            "public",
            f"HTTPS://{SHANGHAI.upper()}:443/",
            Endpoint(f"https://{SHANGHAI}", SHANGHAI, loopback=False),
        ),
        (
            "",
            "public",
            "http://127.0.0.1:8080",
            Endpoint("http://127.0.0.1:8080", "127.0.0.1:8080", loopback=True),
        ),
        ("", "public", "http://[::1]:80", Endpoint("http://[::1]", "[::1]", loopback=True)),
        (
            "",
            "public",
            "https://localhost:8443",
            Endpoint("https://localhost:8443", "localhost:8443", loopback=True),
        ),
    ],
)
def test_resolved(region: str, network: str, endpoint: str, expected: Endpoint) -> None:
    assert resolve_endpoint(region, network, endpoint, allow=False) == expected


@pytest.mark.parametrize(
    ("region", "doubt"),
    [
        ("cn-shenzhen", "does not list custom face retrieval for cn-shenzhen"),
        ("ap-southeast-1", "does not list"),
        ("cn-shangai", "nearest name that it lists is cn-shanghai"),
    ],
)
def test_doubtful_regions_carry_a_note(region: str, doubt: str) -> None:
    assert doubt in resolve_endpoint(region, "public", "", allow=False).note
    host = f"https://green.{region}.aliyuncs.com"
    assert doubt in resolve_endpoint("", "public", host, allow=False).note


def test_neither_region_nor_endpoint() -> None:
    with pytest.raises(UsageRefused) as caught:
        resolve_endpoint("", "public", "", allow=True)
    for word in ("--region", "key region", "--endpoint", "key endpoint"):
        assert word in caught.value.cause + caught.value.remedy


@pytest.mark.parametrize("region", ["Shanghai", "cn_shanghai", "cn-shanghai.evil", "cn", " ", "-"])
def test_not_a_region(region: str) -> None:
    with pytest.raises(UsageRefused) as caught:
        resolve_endpoint(region, "public", "", allow=True)
    assert "Did you mean" in caught.value.remedy


def test_the_nearest_region_is_named() -> None:
    with pytest.raises(UsageRefused) as caught:
        resolve_endpoint("CN-Shanghai", "public", "", allow=False)
    assert "Did you mean cn-shanghai?" in caught.value.remedy


@pytest.mark.parametrize(
    "endpoint",
    [
        f"http://{SHANGHAI}",
        "http://192.0.2.1",
        "http://localhost.evil.example",
        f"ftp://{SHANGHAI}",
        f"https://user:pa55@{SHANGHAI}",
        f"https://@{SHANGHAI}",
        f"https://{SHANGHAI}/green",
        f"https://{SHANGHAI}?a=b",
        f"https://{SHANGHAI}?",
        f"https://{SHANGHAI}#a",
        f"https://{SHANGHAI}:0",
        f"https://{SHANGHAI}:99999",
        f"https://{SHANGHAI}:x",
        f"https://{SHANGHAI}.",
        f"https://{SHANGHAI}\\@evil.example",
        f"https://{SHANGHAI}\n",
        f" https://{SHANGHAI}",
        "https://gr\u0435en.cn-shanghai.aliyuncs.com",
        "https://",
        "https://[::1",
        "://",
        "https://a..b",
        "https://-a",
    ],
)
def test_not_an_endpoint(endpoint: str) -> None:
    with pytest.raises(UsageRefused) as caught:
        resolve_endpoint("", "public", endpoint, allow=True)
    assert caught.value.remedy
    assert "pa55" not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://example.com",
        "https://green.cn-shanghai.aliyuncs.com.evil.example",
        "https://evilgreen.cn-shanghai.aliyuncs.com",
        "https://green.aliyuncs.com.cn",
        # A bucket that anybody can create.
        "https://green-x.oss-cn-hangzhou.aliyuncs.com",
        "https://192.0.2.1",
    ],
)
def test_a_foreign_host_needs_to_be_allowed(endpoint: str) -> None:
    with pytest.raises(GateClosed, match="--endpoint"):
        resolve_endpoint("", "public", endpoint, allow=False)
    assert resolve_endpoint("", "public", endpoint, allow=True).url_base == endpoint


@pytest.mark.parametrize(
    "endpoint", ["https://green.aliyuncs.com", "https://green-cip.cn-shanghai.aliyuncs.com"]
)
def test_other_hosts_of_the_service_need_no_permission(endpoint: str) -> None:
    assert resolve_endpoint("", "public", endpoint, allow=False).url_base == endpoint


def test_an_endpoint_of_another_region() -> None:
    with pytest.raises(UsageRefused, match="belongs to cn-beijing"):
        resolve_endpoint(
            "cn-shanghai", "public", "https://green.cn-beijing.aliyuncs.com", allow=True
        )


@unhurried
@given(st.text(max_size=40) | st.text(max_size=20).map("https://{}".format))
def test_any_endpoint_is_resolved_or_refused(endpoint: str) -> None:
    try:
        found = resolve_endpoint("cn-shanghai", "public", endpoint, allow=True)
    except FacepurgeError:
        return
    assert found.url_base.startswith("https://") or found.loopback


GREEN = "https://green.cn-shanghai.aliyuncs.com"


@pytest.mark.parametrize(
    ("region", "network", "endpoint", "sts"),
    [
        ("cn-shanghai", "public", "", "https://sts.cn-shanghai.aliyuncs.com"),
        ("cn-shanghai", "vpc", "", "https://sts-vpc.cn-shanghai.aliyuncs.com"),
        ("", "public", GREEN, "https://sts.cn-shanghai.aliyuncs.com"),
        ("", "public", f"{GREEN}:8443", "https://sts.cn-shanghai.aliyuncs.com"),
        ("", "public", "https://green.aliyuncs.com", "https://sts.aliyuncs.com"),
        ("", "public", "https://green-vpc.cn-x.aliyuncs.com", "https://sts-vpc.cn-x.aliyuncs.com"),
    ],
)
def test_sts_follows_the_service(region: str, network: str, endpoint: str, sts: str) -> None:
    service = resolve_endpoint(region, network, endpoint, allow=False)
    found = resolve_sts(service, "", allow=False)
    assert found is not None
    assert (found.url_base, found.host, found.loopback) == (sts, sts[8:], False)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:8080", "https://proxy.example"])
def test_nobody_is_asked_about_the_keys_of_an_emulator_or_a_proxy(endpoint: str) -> None:
    service = resolve_endpoint("", "public", endpoint, allow=True)
    assert resolve_sts(service, "", allow=True) is None
    named = resolve_sts(service, "http://127.0.0.1:8081", allow=False)
    assert named is not None
    assert (named.url_base, named.host, named.loopback) == (
        "http://127.0.0.1:8081",
        "127.0.0.1:8081",
        True,
    )


@pytest.mark.parametrize(
    ("sts", "refusal", "said"),
    [
        ("http://sts.aliyuncs.com", UsageRefused, "sts_endpoint: http://sts.aliyuncs.com would"),
        ("ftp://sts.aliyuncs.com", UsageRefused, "sts_endpoint: ftp:// is not"),
        ("https://a:b@sts.aliyuncs.com", UsageRefused, "sts_endpoint: it must not contain a user"),
        ("https://sts.aliyuncs.com/x", UsageRefused, "sts_endpoint: it must not contain a path"),
        ("https://sts.example", GateClosed, "sts_endpoint: sts.example is neither"),
        ("https://sts.oss.aliyuncs.com", GateClosed, "sts_endpoint: sts.oss.aliyuncs.com is"),
        ("https://sts-x.cn-y.aliyuncs.com", GateClosed, "sts_endpoint: sts-x.cn-y"),
    ],
)
def test_an_sts_endpoint_that_is_none(sts: str, refusal: type[FacepurgeError], said: str) -> None:
    service = resolve_endpoint("cn-shanghai", "public", "", allow=False)
    with pytest.raises(refusal) as caught:
        resolve_sts(service, sts, allow=False)
    assert caught.value.cause.startswith(said)
    assert caught.value.remedy
