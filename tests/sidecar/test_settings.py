import pytest

from modelcanary_sidecar.errors import SettingsError
from modelcanary_sidecar.settings import Address, read_settings

NEEDED = {
    "MODELCANARY_UPSTREAM": "http://127.0.0.1:8081",
    "MODELCANARY_LEDGER": "http://ledger:8000/",
    "MODELCANARY_NAME": "fraud",
}


def test_the_environment_is_enough_and_an_argument_wins() -> None:
    settings = read_settings(["--name", "churn", "--drain-delay", "250ms"], {**NEEDED, "HOSTNAME": "pod-1"})
    assert settings.upstream == Address("127.0.0.1", 8081)
    assert settings.ledger == "http://ledger:8000"
    assert (settings.name, settings.namespace, settings.identity) == ("churn", "default", "pod-1")
    assert settings.limits.drain_delay == 0.25
    assert settings.listen == Address("0.0.0.0", 8080)
    assert settings.token_file is None


def test_our_idle_limit_is_below_those_of_the_model_servers() -> None:
    assert read_settings([], NEEDED).limits.upstream_idle < 2.0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--listen", "8080"], "--listen"),
        (["--listen", "127.0.0.1:70000"], "--listen"),
        (["--upstream", "https://127.0.0.1:1"], "--upstream"),
        (["--upstream", "http://127.0.0.1:1/base"], "--upstream"),
        (["--upstream", "http://127.0.0.1:x"], "--upstream"),
        (["--ledger", "ledger:80"], "--ledger"),
        (["--ledger", "http://[::1"], "--ledger"),
        (["--upstream", "http://[ledger]:80"], "--upstream"),
        (["--workers", "0"], "--workers"),
        (["--drain-time", "soon"], "--drain-time"),
        (["--drain-path", "drain"], "--drain-path"),
        (["--drain-path", "/drain?x"], "--drain-path"),
        (["--wokers", "2"], "--wokers"),
    ],
)
def test_a_bad_setting_is_named_with_its_remedy(arguments: list[str], named: str) -> None:
    with pytest.raises(SettingsError, match=named) as caught:
        read_settings(arguments, NEEDED)
    assert ";" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(SettingsError, match="--upstream"):
        read_settings([], {})
