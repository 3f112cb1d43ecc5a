"""The grants of oauthToken that use up nothing, and the ways in which a client shows who it is."""

import base64
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from keyturn.core.errors import KeyturnError, UnavailableError
from keyturn.core.pipeline_values import PipelineValues, Token
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.oauth.client_authentication import _readable
from keyturn.exchanges.registry import exchange
from tests.integration.exchanges.test_oauth import CA_FROM, OPERATION, SECRET_FROM, refresh
from tests.support.dependencies import REFRESH
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import CLIENT_SECRET
from tests.support.exchange_steps import context, issuer_client

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TYPE = "urn:ietf:params:oauth:token-type:"
KEY_FROM = {"secretKeyRef": {"name": "key", "key": "tls.key"}}
ACTOR_FROM = {"secretKeyRef": {"name": "actor", "key": "token"}}
EXCHANGED = {"grantType": EXCHANGE, "subjectTokenType": f"{TYPE}jwt"}


def keys(kind: str) -> tuple[str, str]:
    """A private and a public key in PEM."""
    made = ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)
    private = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return private, made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


RSA, EC = keys("rsa"), keys("ec")


def made_up(n: int, p: int, q: int) -> str:
    """An RSA key (RFC 8017 appendix A.1.2) whose numbers do not belong together."""
    numbers = b"".join(_der(2, _integer(number)) for number in (0, n, 65537, 3, p, q, 1, 1, 1))
    encoded = base64.encodebytes(_der(0x30, numbers)).decode()
    return f"-----BEGIN RSA PRIVATE KEY-----\n{encoded}-----END RSA PRIVATE KEY-----\n"


def _integer(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = size.to_bytes((size.bit_length() + 7) // 8 or 1, "big")
    return bytes([tag]) + (bytes([size]) if size < 128 else bytes([0x80 + len(length)]) + length) + content


class Issuer:
    """The emulator's issuer, asked as the spine does."""

    def __init__(self, client: Aws, emulator: Emulator) -> None:
        self.client, self.emulator, self.issuer_client = client, emulator, issuer_client()
        self.values = {"client": CLIENT_SECRET, "ca": emulator.ca}

    async def call(self, held: PipelineValues, **changes: Any) -> PipelineValues:
        before = [REFRESH] if "from" in changes else []
        wanted = refresh(self.emulator, *before, **changes)
        outside = context(self.client, self.issuer_client, self.values)
        return await exchange(outside, wanted, wanted.spec.exchanges[-1], held)

    async def failing(self, held: PipelineValues, **changes: Any) -> KeyturnError:
        with pytest.raises(KeyturnError) as raised:
            await self.call(held, **changes)
        return raised.value

    def assertion(self, **claims: Any) -> Token:
        """A JWT that the issuer takes as an assertion."""
        return Token(self.emulator.jwt(self.emulator.issuer_url, **claims))


@pytest.fixture
def issuer(client: Aws, emulator: Emulator, all_closed: None) -> Issuer:
    return Issuer(client, emulator)


def claims(held: PipelineValues) -> dict[str, Any]:
    assert held.access_token
    told: dict[str, Any] = jwt.decode(held.access_token.value, options={"verify_signature": False})
    return told


@pytest.mark.parametrize("how", ["client_secret_basic", "client_secret_post"])
async def test_a_client_gets_a_token_of_its_own(how: str, issuer: Issuer) -> None:
    held = await issuer.call(
        PipelineValues(), grantType="client_credentials", clientAuthentication=how, scope=["a", "b"]
    )

    assert (claims(held)["sub"], claims(held)["scope"]) == ("keyturn", "a b")
    assert held.refresh_token is None
    assert held.access_token
    assert held.access_token.expires_at


@pytest.mark.parametrize("token", ["subject", "access", "id"])
async def test_the_newest_token_or_the_id_token_is_exchanged(token: str, issuer: Issuer) -> None:
    held = PipelineValues(
        source_token=issuer.assertion(subject="subject"),
        access_token=issuer.assertion(subject="access") if token != "subject" else None,
        id_token=issuer.assertion(subject="id"),
    )
    chosen = {"from": "idToken"} if token == "id" else {}

    assert claims(await issuer.call(held, **EXCHANGED, **chosen))["sub"] == token


async def test_everything_that_an_exchange_can_say_arrives(issuer: Issuer) -> None:
    issuer.values["actor"] = issuer.assertion(subject="robot").value
    held = await issuer.call(
        PipelineValues(issuer.assertion()),
        **EXCHANGED,
        requestedTokenType=f"{TYPE}jwt",
        actorTokenFrom=ACTOR_FROM,
        actorTokenType=f"{TYPE}jwt",
        audience=["one", "two"],
        resource=["https://three.example/"],
        scope=["openid"],
        extraParameters={"tenant": "a b&c"},
    )

    assert claims(held)["aud"] == ["one", "two", "https://three.example/"]
    assert claims(held)["act"] == {"sub": "robot"}
    assert held.id_token


async def test_what_a_subject_token_gave_goes_on_in_its_place(issuer: Issuer) -> None:
    asked = EXCHANGED | {"requestedTokenType": f"{TYPE}refresh_token", "scope": ["openid"]}
    first = await issuer.call(PipelineValues(proof=issuer.assertion().value), **asked)
    second = await issuer.call(PipelineValues(refresh_token=first.refresh_token), **asked)
    third = await issuer.call(PipelineValues(refresh_token=second.refresh_token), **asked)

    assert claims(third)["sub"] == claims(first)["sub"]
    assert len({first.refresh_token, second.refresh_token, third.refresh_token, None}) == 4
    assert issuer.emulator.family(first.refresh_token or "").consumed == [0, 1]


async def test_a_refresh_token_that_is_called_access_token_is_one(issuer: Issuer) -> None:
    """RFC 8693 section 2.2.1: what was asked for is in access_token, whatever it is."""
    issuer.emulator.fault(OPERATION, without="refresh_token")
    asked = EXCHANGED | {"requestedTokenType": f"{TYPE}refresh_token"}
    held = await issuer.call(PipelineValues(proof=issuer.assertion().value), **asked)

    assert (held.access_token, held.refresh_token in issuer.emulator.secrets()) == (None, True)


async def test_the_source_token_is_not_taken_for_one_that_was_not_given(issuer: Issuer) -> None:
    issuer.emulator.fault(OPERATION, without="access_token")
    asked = EXCHANGED | {"requestedTokenType": f"{TYPE}refresh_token"}
    error = await issuer.failing(PipelineValues(issuer.assertion()), **asked)

    assert isinstance(error, UnavailableError)
    assert (error.reason, error.outcome_unknown) == ("Unavailable", False)


@pytest.mark.parametrize("sent", ["proof", "refresh_token"])
async def test_a_lost_answer_is_a_doubt_where_something_is_used_up(sent: str, issuer: Issuer) -> None:
    issuer.emulator.fault(OPERATION, drop="after")
    asked = EXCHANGED | {"requestedTokenType": f"{TYPE}refresh_token"}
    error = await issuer.failing(PipelineValues(**{sent: issuer.assertion().value}), **asked)  # type: ignore[arg-type]

    assert isinstance(error, UnavailableError)
    assert error.outcome_unknown


async def test_an_assertion_is_taken_once_by_this_issuer(issuer: Issuer) -> None:
    held = PipelineValues(issuer.assertion(subject="alice"))
    first = await issuer.call(held, grantType=BEARER)
    error = await issuer.failing(held, grantType=BEARER)

    assert claims(first)["sub"] == "alice"
    assert (error.reason, "invalid_grant" in error.message) == ("SourceInvalid", True)


@pytest.mark.parametrize(
    ("changes", "reason", "code"),
    [
        pytest.param({"audience": ["refused"]}, "InvalidSpec", "invalid_target", id="an audience that is refused"),
        pytest.param({"subjectTokenType": "urn:x"}, "InvalidSpec", "invalid_request", id="an unknown type"),
        pytest.param({"clientSecretFrom": None}, "AccessDenied", "invalid_client", id="no secret"),
    ],
)
async def test_an_exchange_that_is_refused(changes: dict[str, Any], reason: str, code: str, issuer: Issuer) -> None:
    error = await issuer.failing(PipelineValues(issuer.assertion()), **(EXCHANGED | changes))

    assert (error.reason, code in error.message) == (reason, True)


async def test_an_id_token_that_nobody_gave(issuer: Issuer) -> None:
    error = await issuer.failing(PipelineValues(issuer.assertion()), **EXCHANGED, **{"from": "idToken"})

    assert (error.reason, issuer.emulator.calls(OPERATION)) == ("InvalidSpec", 0)
    assert "openid" in error.message


@pytest.mark.parametrize("grant", ["client_credentials", BEARER, EXCHANGE])
async def test_a_lost_answer_leaves_no_doubt_where_nothing_is_used_up(grant: str, issuer: Issuer) -> None:
    issuer.emulator.fault(OPERATION, drop="after")
    more = {"subjectTokenType": f"{TYPE}jwt"} if grant == EXCHANGE else {}
    error = await issuer.failing(PipelineValues(issuer.assertion()), grantType=grant, **more)

    assert isinstance(error, UnavailableError)
    assert (error.reason, error.outcome_unknown) == ("Unreachable", False)


@pytest.mark.parametrize(
    ("pair", "changes"),
    [
        pytest.param(RSA, {}, id="RS256 by default"),
        pytest.param(RSA, {"algorithm": "PS384", "keyId": "key 1"}, id="PS384 with a key id"),
        pytest.param(EC, {"algorithm": "ES256", "clientAuthentication": "private_key_jwt"}, id="ES256"),
    ],
)
async def test_a_client_shows_who_it_is_by_its_key(
    pair: tuple[str, str], changes: dict[str, str], issuer: Issuer
) -> None:
    issuer.emulator.oauth_client("with-key", public_key=pair[1])
    issuer.values["key"] = pair[0]
    by_key = {"clientId": "with-key", "clientSecretFrom": None, "clientKeyFrom": KEY_FROM} | changes
    for _ in range(2):  # each with a jti of its own
        held = await issuer.call(PipelineValues(), grantType="client_credentials", **by_key)

    assert claims(held)["sub"] == "with-key"


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        pytest.param("planted", "RS256", id="no key"),
        pytest.param(RSA[1], "RS256", id="a public key"),
        pytest.param(RSA[0], "ES256", id="a key of another kind"),
        pytest.param("-----BEGIN PRIVATE KEY-----\nplanted\n-----END PRIVATE KEY-----", "ES256", id="a broken key"),
    ],
)
async def test_a_key_that_cannot_sign_is_refused_and_not_shown(key: str, algorithm: str, issuer: Issuer) -> None:
    issuer.values["key"] = key
    by_key = {"clientSecretFrom": None, "clientKeyFrom": KEY_FROM, "algorithm": algorithm}
    error = await issuer.failing(PipelineValues(), grantType="client_credentials", **by_key)

    assert (error.reason, issuer.emulator.calls(OPERATION)) == ("InvalidSpec", 0)
    assert error.message == f"clientKeyFrom holds no PEM key that signs {algorithm}, RSA of at most 4096 bits"
    assert (error.__cause__, error.__suppress_context__) == (None, True)


@pytest.mark.parametrize(
    ("key", "bits"),
    [
        pytest.param(made_up(n=2**8191 + 1, p=2**4423 - 1, q=3), 8192, id="a long modulus"),
        pytest.param(made_up(n=2**2047 + 1, p=2**9941 - 1, q=3), 2048, id="a long prime"),
        pytest.param(made_up(n=2**49151 + 1, p=3, q=5), 49152, id="all that a Secret holds"),
    ],
)
def test_a_key_that_would_take_long_is_not_tried(key: str, bits: int) -> None:
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"^$"):
        _readable(key)

    assert time.monotonic() - started < 0.5, bits


async def test_a_key_of_somebody_else_is_refused(issuer: Issuer) -> None:
    issuer.emulator.oauth_client("with-key", public_key=RSA[1])
    issuer.values["key"] = keys("rsa")[0]
    by_key = {"clientId": "with-key", "clientSecretFrom": None, "clientKeyFrom": KEY_FROM}
    error = await issuer.failing(PipelineValues(), grantType="client_credentials", **by_key)

    assert (error.reason, "invalid_client" in error.message) == ("AccessDenied", True)


async def test_a_public_client_names_itself_and_has_no_secret(issuer: Issuer) -> None:
    issuer.emulator.oauth_client("public")
    public = {"clientId": "public", "clientSecretFrom": None, "clientAuthentication": "none"}
    token = Token(issuer.emulator.oauth_refresh_token("public"))

    assert claims(await issuer.call(PipelineValues(token), **public))["client_id"] == "public"


async def test_a_ca_bundle_of_a_config_map(issuer: Issuer) -> None:
    from_config_map = {"configMapKeyRef": CA_FROM["secretKeyRef"]}

    assert await issuer.call(PipelineValues(), grantType="client_credentials", caBundleFrom=from_config_map)


async def test_no_secret_is_in_what_is_raised(issuer: Issuer) -> None:
    issuer.emulator.fault(OPERATION, code="invalid_client", message="planted")
    error = await issuer.failing(PipelineValues(), grantType="client_credentials", clientSecretFrom=SECRET_FROM)

    assert CLIENT_SECRET not in repr(error) + repr(vars(error))
    assert base64.b64encode(CLIENT_SECRET.encode()).decode() not in repr(error)
