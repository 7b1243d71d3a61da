"""How a breaker's policy came about: each option's value, beside its default, and who chose it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analytics_admin.breakers.policy import BreakerPolicy, plain_policy
from analytics_admin.breakers.registry import effective_policy, policy_layers

DEFAULT = "default"
ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOption:
    """One option of a policy, exceptions and functions by their names."""

    name: str
    value: Any
    default: Any
    chosen_by: str
    """"default", "code", "BREAKER_DEFAULTS" or "BREAKERS" (settings); or "elsewhere": by the code
    or the settings of another process, which this one does not know."""

    @property
    def is_default(self) -> bool:
        return self.chosen_by == DEFAULT


def explain_policy(name: str, policy: Mapping[str, Any]) -> list[PolicyOption]:
    """Return every option of the policy that is in use for the breaker, as describe_breaker says.

    A default that somebody chose on purpose counts as chosen.
    """
    defaults, ours = plain_policy(BreakerPolicy()), plain_policy(effective_policy(name))
    layers = policy_layers(name)

    def chosen_by(option: str) -> str:
        if policy[option] == ours[option]:
            return layers.get(option, DEFAULT)
        return DEFAULT if policy[option] == defaults[option] else ELSEWHERE

    return [
        PolicyOption(
            name=option, value=policy[option], default=default, chosen_by=chosen_by(option)
        )
        for option, default in defaults.items()
    ]
