import pytest
import yaml

from keyturn.strict_yaml import KubernetesLoader


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ("12:30", "12:30"),
        ("y", True),
        ("off", False),
        ("0440", 0o440),
        ("1e3", 1000),
        ("3600.0", 3600),
        ("1e21", 1e21),
        ("0o17", 15),
        ("0o", "0o"),
        ("0.5", 0.5),
        ("-7", -7),
        ("null", None),
        ("1.2.3", "1.2.3"),
    ],
)
def test_a_plain_word_is_read_as_kubectl_does(text: str, value: object) -> None:
    read = yaml.load(f"value: {text}\n", KubernetesLoader)["value"]  # noqa: S506 - a SafeLoader

    assert (read, type(read)) == (value, type(value))
