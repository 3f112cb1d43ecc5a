import pytest
import yaml

from keyturn.sidecar.kubernetes_yaml import KubernetesLoader


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ("12:30", "12:30"),
        ("y", True),
        ("off", False),
        ("0440", 0o440),
        ("1e3", 1000.0),
        ("0.5", 0.5),
        ("-7", -7),
        ("null", None),
        ("1.2.3", "1.2.3"),
    ],
)
def test_a_plain_word_is_read_as_kubectl_does(text: str, value: object) -> None:
    assert yaml.load(f"value: {text}\n", KubernetesLoader) == {"value": value}  # noqa: S506 - a SafeLoader
