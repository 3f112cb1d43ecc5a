"""What each operation of AWS makes of the error codes that it documents."""

import re

import pytest
from botocore.exceptions import ClientError

from keyturn.core.errors import KeyturnError
from keyturn.exchanges.aws_errors import failure
from tools.reference.exchanges import operations

SIGNED_JSON = "CodeArtifact|ECR|License Manager [CD]"
# The start of the titles of the operations (a regular expression), their codes, the reason, and a part of the hint.
ROWS = [
    ("STS", "InvalidParameterValue", "InvalidSpec", "check the tags"),
    ("STS", "MalformedPolicyDocument", "InvalidSpec", "check that `policy`"),
    ("STS", "PackedPolicyTooLarge", "InvalidSpec", "shorten policy, policyArns or tags"),
    ("STS", "RegionDisabledException", "AccessDenied", "enable STS"),
    ("STS", "ValidationError", "InvalidSpec", "durationSeconds"),
    ("STS AssumeRole", "AccessDenied", "AccessDenied", "trust policy"),
    ("STS AssumeRoleWithWebIdentity", "ExpiredTokenException", "SourceExpired", "the token has expired"),
    ("STS AssumeRoleWithWebIdentity", "IDPCommunicationError", "SourceInvalid", "issuer's keys"),
    ("STS AssumeRoleWithWebIdentity", "IDPRejectedClaim", "AccessDenied", "rejected the claims of the token"),
    ("STS AssumeRoleWithWebIdentity", "InvalidIdentityToken", "SourceInvalid", "OIDC provider"),
    ("STS Get", "AccessDenied", "AccessDenied", "an IAM user"),
    ("Identity Center Create", "AccessDeniedException", "AccessDenied", "assigned to the application"),
    ("Identity Center Create", "AuthorizationPendingException", "Unavailable", "not signed in"),
    ("Identity Center Create", "ExpiredTokenException", "SourceExpired", "has expired"),
    ("Identity Center Create", "InternalServerException", "Unavailable", ""),
    ("Identity Center Create", "InvalidClientException UnauthorizedClientException", "AccessDenied", "clientId"),
    ("Identity Center Create", "InvalidGrantException", "SourceInvalid", "sign in again"),
    ("Identity Center Create", "InvalidRequestException", "InvalidSpec", "redirectUri"),
    ("Identity Center Create", "InvalidRequestRegionException", "InvalidSpec", "another region"),
    ("Identity Center Create", "InvalidScopeException", "InvalidSpec", "not have this scope"),
    # Here the source is a token, so a wrong access key is not an invalid source.
    ("Identity Center Create", "InvalidSignatureException UnrecognizedClientException", "AccessDenied", "access key"),
    ("Identity Center Create", "SlowDownException", "Throttled", ""),
    ("Identity Center Create", "UnsupportedGrantTypeException", "InvalidSpec", "does not allow this grant"),
    ("Identity Center Get", "ForbiddenException ResourceNotFoundException", "AccessDenied", "assigned"),
    ("Identity Center Get", "InvalidRequestException", "InvalidSpec", "roleName"),
    ("Identity Center Get", "TooManyRequestsException", "Throttled", ""),
    ("Identity Center Get", "UnauthorizedException", "SourceInvalid", "sign in again"),
    ("Cognito", "DeveloperUserAlreadyRegisteredException", "InvalidSpec", ""),
    ("Cognito", "ExternalServiceException", "SourceInvalid", "did not respond"),
    ("Cognito", "InternalErrorException", "Unavailable", ""),
    ("Cognito", "InvalidIdentityPoolConfigurationException", "AccessDenied", "trust policy"),
    ("Cognito", "InvalidParameterException", "InvalidSpec", "login provider"),
    ("Cognito", "LimitExceededException", "AccessDenied", "maximum number of identities"),
    ("Cognito", "NotAuthorizedException", "SourceInvalid", "still valid"),
    ("Cognito", "ResourceConflictException", "SourceInvalid", "another identity"),
    ("Cognito", "ResourceNotFoundException", "InvalidSpec", "identityPoolId"),
    ("Cognito", "TooManyRequestsException", "Throttled", ""),
    ("CodeArtifact", "AccessDeniedException", "AccessDenied", "policy allows codeartifact:Get"),
    ("CodeArtifact", "ConflictException InternalServerException", "Unavailable", ""),
    ("CodeArtifact", "ResourceNotFoundException", "InvalidSpec", "check that the domain"),
    ("CodeArtifact GetAuthorizationToken", "ValidationException", "InvalidSpec", "durationSeconds"),
    ("CodeArtifact GetRepositoryEndpoint", "ValidationException", "InvalidSpec", "format"),
    ("ECR", "AccessDeniedException", "AccessDenied", "policy allows ecr"),
    ("ECR", "InvalidParameterException", "InvalidSpec", "registryIds"),
    ("ECR", "ServerException", "Unavailable", ""),
    ("ECR", "UnsupportedCommandException", "InvalidSpec", "us-east-1"),
    ("License Manager", "AuthorizationException", "AccessDenied", "used in this account"),
    ("License Manager", "RateLimitExceededException", "Throttled", ""),
    ("License Manager", "ServerInternalException", "Unavailable", ""),
    ("License Manager [CD]", "AccessDeniedException", "AccessDenied", "license's grant"),
    ("License Manager [CD]", "RedirectException", "InvalidSpec", "another region"),
    ("License Manager D", "ResourceNotFoundException", "SourceNotFound", ""),
    ("License Manager C", "ResourceLimitExceededException", "InvalidSpec", "too many tokens"),
    ("License Manager C", "ResourceNotFoundException", "InvalidSpec", "license exists"),
    ("License Manager [CD]", "ValidationException", "InvalidSpec", "licenseManagerCreateToken"),
    ("License Manager G", "AccessDeniedException", "AccessDenied", "may have been deleted"),
    ("License Manager G", "ValidationException", "SourceInvalid", "malformed, expired"),
    ("STS (AssumeRole$|Get)", "ExpiredToken ExpiredTokenException", "SourceExpired", "have expired"),
    ("STS AssumeRole as", "ExpiredToken ExpiredTokenException", "Unavailable", "the operator's own"),
    ("STS AssumeRole as", "InvalidClientTokenId SignatureDoesNotMatch", "SourceInvalid", "the operator's own"),
    ("STS (AssumeRole$|Get)", "InvalidClientTokenId SignatureDoesNotMatch", "SourceInvalid", "access key that signs"),
    (SIGNED_JSON, "ExpiredTokenException", "SourceExpired", "have expired"),
    (SIGNED_JSON, "InvalidSignatureException UnrecognizedClientException", "SourceInvalid", "access key that signs"),
]


def failures(pattern: str, code: str) -> list[KeyturnError]:
    """What the operations with this title make of the code. With status 302, an unknown code is Unavailable."""
    response = {"Error": {"Code": code, "Message": "planted"}, "ResponseMetadata": {"HTTPStatusCode": 302}}
    matching = [operation for title, operation in operations().items() if re.match(pattern, title)]
    return [
        failure(one, ClientError(response, one.name.replace("_", "")), "us-east-1")  # type: ignore[arg-type]
        for one in matching
    ]


@pytest.mark.parametrize(("pattern", "codes", "reason", "hint"), ROWS)
def test_documented_code_has_its_reason_and_hint(pattern: str, codes: str, reason: str, hint: str) -> None:
    errors = [error for code in codes.split() for error in failures(pattern, code)]

    assert {error.reason for error in errors} == {reason}
    assert [error.message for error in errors if hint not in error.message or "planted" in error.message] == []


def test_every_code_of_an_operation_is_in_the_table() -> None:
    codes = {(title, code) for title, operation in operations().items() for code in operation.classifications}

    assert codes == {
        (title, code)
        for pattern, codes, *_ in ROWS
        for title in operations()
        for code in codes.split()
        if re.match(pattern, title)
    }


def test_refusals_that_a_recent_change_may_cause_are_eventually_consistent() -> None:
    assert {
        (title.partition(" ")[0], code)
        for title, operation in operations().items()
        for code, classification in operation.classifications.items()
        if classification.eventually_consistent
    } == {
        ("CodeArtifact", "AccessDeniedException"),
        ("Cognito", "InvalidIdentityPoolConfigurationException"),
        ("ECR", "AccessDeniedException"),
        ("Identity", "AccessDeniedException"),
        ("License", "AccessDeniedException"),
        ("STS", "AccessDenied"),
    }


def test_refusals_that_usually_pass_are_transient() -> None:
    assert {
        (title.partition(" ")[0], code)
        for title, operation in operations().items()
        for code, classification in operation.classifications.items()
        if classification.transient
    } == {
        ("CodeArtifact", "UnrecognizedClientException"),
        ("Cognito", "ExternalServiceException"),
        ("Cognito", "NotAuthorizedException"),
        ("ECR", "UnrecognizedClientException"),
        ("Identity", "UnrecognizedClientException"),
        ("License", "UnrecognizedClientException"),
        ("STS", "IDPCommunicationError"),
        ("STS", "InvalidClientTokenId"),
        ("STS", "InvalidIdentityToken"),
    }
