"""What all models of the API share, and the models of identities."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args

from fastapi import Body
from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, PlainSerializer, model_validator

T = TypeVar("T", bound=BaseModel)

#: Times on the wire: ISO 8601 with Z, from seconds since the epoch.
Time = Annotated[
    float,
    PlainSerializer(
        lambda seconds: datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z"),
        return_type=Annotated[str, Field(json_schema_extra={"format": "date-time"})],
    ),
]
Role = Literal["owner", "editor", "viewer"]
_MAX_DEPTH = 100


def _storable(value: Any, depth: int = 0) -> None:
    """ValueError for text that no database stores, and for a depth that no reader of JSON survives."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"nested more than {_MAX_DEPTH} levels deep")
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("text may not contain a zero byte")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("text may not contain half of a surrogate pair") from None
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _storable(key, depth + 1)
            _storable(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _storable(item, depth + 1)


class Asked(BaseModel):
    """A body of a request: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _check(cls, value: Any) -> Any:
        _storable(value)
        return value


class Shown(BaseModel):
    """A body of an answer, made of a view."""

    model_config = ConfigDict(from_attributes=True)


def examples_of(model: type[BaseModel]) -> list[Any]:
    """The examples that a model was declared with."""
    extra = model.model_config.get("json_schema_extra")
    found = extra.get("examples") if isinstance(extra, dict) else None
    return found if isinstance(found, list) else []


def optional(model: type[BaseModel]) -> Any:
    """The body of a request that may be left out; what it is optional for hides the model's examples otherwise."""
    return Body(examples=examples_of(model))


def example(body: Any, media_type: str = "application/json") -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entry of a successful answer that no model describes."""
    return {200: {"content": {media_type: {"example": body}}}}


class Listing(BaseModel, Generic[T]):
    """A list that always fits one answer."""

    items: list[T]

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """With the example of its items, so that no list needs one of its own."""
        schema = handler.resolve_ref_schema(handler(core))
        (item,) = get_args(cls.model_fields["items"].annotation)
        rest = {name: field.examples[0] for name, field in cls.model_fields.items() if field.examples}
        schema["examples"] = [{"items": examples_of(item), **rest}]
        return schema


class Paged(Listing[T], Generic[T]):
    """One page; ``next`` is the cursor of the following one, null on the last."""

    next: Annotated[str | None, Field(examples=["WzUxXQ"])] = None


def asked(*values: Mapping[str, Any]) -> ConfigDict:
    """The configuration of a request's model, with examples for its OpenAPI entry."""
    return ConfigDict(extra="forbid", allow_inf_nan=False, json_schema_extra={"examples": [dict(v) for v in values]})


def shown(*values: Mapping[str, Any]) -> ConfigDict:
    """The same of an answer's model. FastAPI drops what is None from examples, so nothing in them may be."""
    return ConfigDict(from_attributes=True, json_schema_extra={"examples": [dict(v) for v in values]})


class Login(Asked):
    """Name and password."""

    model_config = asked({"username": "ada", "password": "correct horse battery"})
    username: Annotated[str, Field(max_length=64)]
    password: Annotated[str, Field(max_length=1024)]


class Refresh(Asked):
    """A refresh token that was not used yet."""

    model_config = asked({"refresh_token": "b0Zk…"})
    refresh_token: Annotated[str, Field(max_length=256)]


class Logout(Asked):
    """``everywhere`` ends all logins of the user, not only this one."""

    model_config = asked({"everywhere": False})
    everywhere: bool = False


class TokensModel(Shown):
    """``expires_in``: seconds that the access token holds."""

    model_config = shown({"access_token": "eyJ…", "refresh_token": "b0Zk…", "token_type": "bearer", "expires_in": 900})
    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a kind, not a secret
    expires_in: int


_USER = {"name": "ada", "full_name": "Ada Lovelace", "email": "ada@example.org", "admin": False, "disabled": False}


class UserModel(Shown):
    """A user."""

    model_config = shown({**_USER, "created_at": "2026-01-01T00:00:00Z"})
    name: str
    full_name: str
    email: str
    admin: bool
    disabled: bool
    created_at: Time


class NewUser(Asked):
    """A user to be made."""

    model_config = asked({"name": "ada", "password": "correct horse battery", "full_name": "Ada Lovelace"})
    name: Annotated[str, Field(max_length=64)]
    password: Annotated[str, Field(max_length=1024)]
    full_name: Annotated[str, Field(max_length=200)] = ""
    email: Annotated[str, Field(max_length=200)] = ""
    admin: bool = False


class UserChanges(Asked):
    """What is left out stays as it is."""

    model_config = asked({"full_name": "Ada King"})
    full_name: Annotated[str, Field(max_length=200)] | None = None
    email: Annotated[str, Field(max_length=200)] | None = None
    admin: bool | None = None
    disabled: bool | None = None


class NewPassword(Asked):
    """``old`` is needed for one's own password."""

    model_config = asked({"old": "correct horse battery", "new": "staple horse correct"})
    old: Annotated[str, Field(max_length=1024)] | None = None
    new: Annotated[str, Field(max_length=1024)]


class ProjectModel(Shown):
    """A project and its members."""

    model_config = shown(
        {
            "name": "plasma",
            "description": "Confinement",
            "owner": "ada",
            "created_at": "2026-01-01T00:00:00Z",
            "members": {"ada": "owner", "kurt": "editor"},
            "weight": 1.0,
        }
    )
    name: str
    description: str
    owner: str
    created_at: Time
    members: dict[str, Role]
    weight: float


class NewProject(Asked):
    """A project to be made; who makes it owns it."""

    model_config = asked({"name": "plasma", "description": "Confinement"})
    name: Annotated[str, Field(max_length=64)]
    description: Annotated[str, Field(max_length=10_000)] = ""


class ProjectChanges(Asked):
    """What is left out stays as it is. ``weight``, the project's share, is for administrators."""

    model_config = asked({"description": "Confinement, second campaign"})
    description: Annotated[str, Field(max_length=10_000)] | None = None
    owner: Annotated[str, Field(max_length=64)] | None = None
    weight: Annotated[float, Field(gt=0, le=1e6)] | None = None


class Membership(Asked):
    """The role of a member."""

    model_config = asked({"role": "editor"})
    role: Role
