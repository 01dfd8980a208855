"""Who is calling: the one shape that a key, a token, a user and a command all become."""

from dataclasses import dataclass

ROLES = ("viewer", "operator", "editor", "admin")


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller and what it may do.

    `team_ids` is None for a caller that sees every team (an unbound key without a
    team, a superuser, a command). `system_id` is set for a caller that speaks only
    as that system. `label` is how the audit names it: "user:anna", "key:nightly".
    """

    label: str
    role: str
    via: str = "api"  # admin | api | command
    team_ids: frozenset[int] | None = None
    system_id: int | None = None
    system_slug: str = ""
    recipient: str = ""
    key_id: str = ""
    user_id: int | None = None

    def may(self, role: str) -> bool:
        """Say whether this caller's role includes `role`."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def sees_team(self, team_id: int | None) -> bool:
        """Say whether rows of this team (None: of nobody) are this caller's to see."""
        return self.team_ids is None or team_id is None or team_id in self.team_ids


COMMAND = Principal(label="command", role="admin", via="command")
