"""Who may do what: names, roles, and tokens that are kept as hashes only."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from knowngood.errors import ConfigError
from knowngood.review.store.database import ROLES, Database, Session, User, now
from knowngood.review.store.inspections import Row

PREFIX = "kg_"  # so that a scanner for leaked secrets can find one
HOURS = 12  # that a browser stays signed in


@dataclass(frozen=True)
class Person:
    """Somebody who was recognised.

    Attributes:
        name: Written beside everything that they do.
        role: "operator", "engineer" or "auditor".
    """

    name: str
    role: str


class People:
    """The users of a record. Tokens have 256 random bits, so that a plain hash cannot be turned back."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(self, name: str, role: str) -> str:
        """Adds a person and returns their token, which is shown once and never kept.

        Raises:
            ConfigError: The name is taken or empty, or there is no such role.
        """
        if role not in ROLES:
            raise ConfigError(f"There is no role {role!r}.", expected=", ".join(ROLES))
        if not name.strip() or len(name) > 80 or not name.isprintable():
            raise ConfigError(f"{name!r} is no name.", expected="1 to 80 printable characters")
        token = PREFIX + secrets.token_urlsafe(32)
        try:
            with self.database.writing() as connection:
                values = {"name": name, "role": role, "token_sha256": hashed(token), "created_at": now()}
                connection.execute(insert(User).values(**values))
        except IntegrityError as error:
            raise ConfigError(f"There is a user {name!r} already.", fix="Choose another name.") from error
        return token

    def revoke(self, name: str) -> bool:
        """Makes the token of a person worthless; what they did stays. Returns whether there was one."""
        with self.database.writing() as connection:
            known = connection.execute(select(User.id).where(User.name == name)).scalar_one_or_none()
            if known is None:
                return False
            connection.execute(delete(Session).where(Session.user_id == known))
            gone = update(User).where(User.id == known, User.revoked_at.is_(None)).values(revoked_at=now())
            return bool(connection.execute(gone).rowcount)

    def by_token(self, token: str) -> Person | None:
        """Returns whose token this is, or None."""
        with self.database.reading() as connection:
            query = select(User.name, User.role).where(User.token_sha256 == hashed(token), User.revoked_at.is_(None))
            found = connection.execute(query).first()
        return None if found is None else Person(found.name, found.role)

    def sign_in(self, token: str) -> str | None:
        """Returns a secret for the browser's cookie, or None where the token is nobody's."""
        with self.database.writing() as connection:
            query = select(User.id).where(User.token_sha256 == hashed(token), User.revoked_at.is_(None))
            number = connection.execute(query).scalar_one_or_none()
            if number is None:
                return None
            secret = secrets.token_urlsafe(32)
            connection.execute(delete(Session).where(Session.expires_at < now()))
            values = {"token_sha256": hashed(secret), "user_id": number, "expires_at": now(3600 * HOURS)}
            connection.execute(insert(Session).values(**values))
        return secret

    def by_session(self, secret: str) -> Person | None:
        """Returns who signed in with this cookie, or None when it is forged, old or signed out."""
        query = select(User.name, User.role).join(Session, Session.user_id == User.id)
        query = query.where(Session.token_sha256 == hashed(secret), Session.expires_at > now())
        with self.database.reading() as connection:
            found = connection.execute(query.where(User.revoked_at.is_(None))).first()
        return None if found is None else Person(found.name, found.role)

    def sign_out(self, secret: str) -> None:
        """Ends a browser's session."""
        with self.database.writing() as connection:
            connection.execute(delete(Session).where(Session.token_sha256 == hashed(secret)))

    def listed(self) -> list[Row]:
        """Returns everybody, without their tokens' hashes."""
        query = select(User.name, User.role, User.created_at, User.revoked_at).order_by(User.name)
        with self.database.reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def hashed(token: str) -> str:
    """Returns what is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
