"""Rules about the operator's own AWS identity as the source."""

from typing import Any

from keyturn.api.base import Rule

# Keyturn sets these session tags, so that trust policies can distinguish TokenRequests.
AMBIENT_TAGS = ["kubernetes-namespace", "kubernetes-name"]
MAX_TAGS = 50 - len(AMBIENT_TAGS)
IS_AMBIENT = "has(self.source.credentials) && has(self.source.credentials.ambient)"


def _leaves_ambient_tags(spec: Any) -> bool:
    assume_role = spec.exchanges[0].assume_role
    tags = (assume_role and assume_role.tags) or ()
    return len(tags) <= MAX_TAGS and not any(tag.key.lower() in AMBIENT_TAGS for tag in tags)


AMBIENT_RULES = (
    Rule(
        message="ambient credentials can be used only if the first exchange is assumeRole without roleSessionName",
        cel=f"""
            !({IS_AMBIENT}) ||
            (has(self.exchanges[0].assumeRole) && !has(self.exchanges[0].assumeRole.roleSessionName))
        """,
        is_met_by=lambda spec: (
            not spec.source.is_ambient
            or bool(spec.exchanges[0].assume_role and spec.exchanges[0].assume_role.role_session_name is None)
        ),
    ),
    Rule(
        message=f"with ambient credentials Keyturn sets the tags {' and '.join(AMBIENT_TAGS)}; tags may contain at most"
        f" {MAX_TAGS} other tags",
        cel=f"""
            !({IS_AMBIENT}) || !has(self.exchanges[0].assumeRole) || !has(self.exchanges[0].assumeRole.tags) ||
            (self.exchanges[0].assumeRole.tags.size() <= {MAX_TAGS} &&
             self.exchanges[0].assumeRole.tags.all(t, !(t.key.lowerAscii() in {AMBIENT_TAGS})))
        """,
        is_met_by=lambda spec: not spec.source.is_ambient or _leaves_ambient_tags(spec),
    ),
)
