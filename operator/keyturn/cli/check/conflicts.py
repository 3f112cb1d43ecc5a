"""TokenRequests that would write the same Secret."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from keyturn.api.token_request import Request
from keyturn.api.validation import Problem
from keyturn.cli.check.objects import Manifest


class CheckedRequest(NamedTuple):
    """A manifest of a TokenRequest, and the parsed TokenRequest unless it is invalid."""

    manifest: Manifest
    request: Request | None


class _Claim(NamedTuple):
    """A Secret that a TokenRequest writes: its target, or the token Secret with the token of a source."""

    manifest: Manifest
    secret: str
    path: str
    source_id: str = ""

    @property
    def verb(self) -> str:
        return "stores another token in" if self.source_id else "writes"


Locate = Callable[[Manifest, str], str]


def conflicts(requests: Iterable[CheckedRequest], locate: Locate) -> Iterator[tuple[Manifest, Problem]]:
    """Yield the conflicts of each TokenRequest with the first one that writes a Secret; `locate` names a position.

    TokenRequests without a namespace are in the same one. The same TokenRequest in two files is no conflict: the files
    may be for two clusters. TokenRequests may share the token of one source, and then must store it in one Secret.
    """
    objects: dict[tuple[object, object], Manifest] = {}
    claims: dict[tuple[object, str], list[_Claim]] = defaultdict(list)
    first_uses: dict[tuple[object, str], _Claim] = {}
    for checked in requests:
        manifest = checked.manifest
        namespace, name = str(manifest.meta.get("namespace", "")), manifest.meta.get("name")
        first = objects.setdefault((namespace, str(name)), manifest) if name else manifest
        if first is not manifest and first.document.file == manifest.document.file:
            message = f"{first.name} is defined twice (before at {locate(first, 'metadata.name')}): rename one of them"
            yield manifest, Problem(message, "metadata.name")
            continue
        for claim in _claims(checked):
            use = first_uses.setdefault((namespace, claim.source_id), claim) if claim.source_id else claim
            if use.secret != claim.secret and not _is_same_object(use, claim):
                position = locate(use.manifest, use.path)
                message = f"{use.manifest.name} ({position}) stores the token of this source in another Secret"
                yield manifest, Problem(f"{message}: use {use.secret} in both", claim.path)
            others = claims[namespace, claim.secret]
            other = next((other for other in others if _is_conflict(other, claim)), None)
            if other:
                position = locate(other.manifest, other.path)
                message = (
                    f"{other.manifest.name} ({position}) {other.verb} Secret {claim.secret}: choose another Secret"
                )
                yield manifest, Problem(message, claim.path)
            others.append(claim)


def _is_same_object(earlier: _Claim, later: _Claim) -> bool:
    name = later.manifest.meta.get("name")
    return earlier.manifest is later.manifest or bool(name and name == earlier.manifest.meta.get("name"))


def _is_conflict(earlier: _Claim, later: _Claim) -> bool:
    return not _is_same_object(earlier, later) and not (earlier.source_id and earlier.source_id == later.source_id)


def _claims(checked: CheckedRequest) -> Iterator[_Claim]:
    manifest = checked.manifest
    # Also known of an invalid TokenRequest, unless its target has a mistake.
    spec = manifest.body.get("spec")
    target = spec.get("target") if isinstance(spec, dict) else None
    secret = target.get("secretName") if isinstance(target, dict) else None
    name = secret or (manifest.meta.get("name") if checked.request or not target else None)
    if isinstance(name, str):
        yield _Claim(manifest, name, "spec.target.secretName" if secret else "metadata.name")
    consumption = checked.request.spec.consumption if checked.request else None
    if consumption:
        path = "spec.exchanges" if consumption.exchange.single_use_credential else "spec.source.token"
        yield _Claim(manifest, consumption.secret, path, consumption.source_id)
