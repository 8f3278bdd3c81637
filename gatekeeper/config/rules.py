"""The rules of the configuration as the core knows them."""

from gatekeeper.config.schema import ProtectRule, PublicRule, RequireSettings, Settings
from gatekeeper.core.model import Access, Require, Rule


def rules_of(settings: Settings) -> tuple[Rule, ...]:
    """All rules, those of `protect` first, in the order of the file."""
    return (*map(_protect, settings.protect), *map(_public, settings.public))


def _protect(rule: ProtectRule) -> Rule:
    return Rule(
        pattern=rule.path,
        access=Access(rule.access),
        require=_require(rule.require),
        methods=None if rule.methods is None else frozenset(rule.methods),
        preflight=rule.preflight,
        encoded_slash=rule.encoded_slash,
        upstream=rule.upstream,
    )


def _public(rule: PublicRule) -> Rule:
    return Rule(
        pattern=rule.path,
        access=Access.PUBLIC,
        identity=rule.identity,
        encoded_slash=rule.encoded_slash,
        upstream=rule.upstream,
    )


def _require(require: RequireSettings) -> Require:
    domains = frozenset(domain.lower() for domain in require.email_domains)
    return Require(
        email_verified=require.email_verified,
        two_factor=require.two_factor,
        roles=(frozenset(require.roles),) if require.roles else (),
        email_domains=(domains,) if domains else (),
        organizations=(frozenset(require.organizations),) if require.organizations else (),
    )
