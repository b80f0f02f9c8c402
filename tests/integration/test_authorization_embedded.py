"""The embedded adapter decides what the one in memory decides: every user, permission and object, side by side."""

from __future__ import annotations

import asyncio

import psycopg

from airavata_scheduler.adapters.authorization.embedded import EmbeddedAuthorization
from airavata_scheduler.adapters.event_bus.postgres import PostgresEventBus
from airavata_scheduler.adapters.memory.authorization import MemoryAuthorization
from airavata_scheduler.adapters.persistence.engine import create_engine
from airavata_scheduler.platform.ports.authorization import PERMISSIONS

MEMBERS = {"p1": {"owner1": "owner", "ed": "editor", "vi": "viewer"}, "p2": {"admin": "owner", "ed": "owner"}}
USERS = ("owner1", "ed", "vi", "none")


def fill(conninfo: str) -> None:
    with psycopg.connect(conninfo) as connection:
        for name in (*USERS, "admin", "off"):
            flags = (name, name == "admin", name == "off")
            connection.execute(
                "INSERT INTO users (name, password_hash, admin, disabled) VALUES (%s, '', %s, %s)", flags
            )
        connection.execute("INSERT INTO projects (name, owner) VALUES ('p1', 'owner1'), ('p2', 'admin')")
        for project, roles in MEMBERS.items():
            for user, role in roles.items():
                connection.execute("INSERT INTO project_members VALUES (%s, %s, %s)", (project, user, role))
        connection.execute("INSERT INTO project_members VALUES ('p1', 'off', 'owner')")
        connection.execute("INSERT INTO credentials (name, owner, kind) VALUES ('c1', 'ed', 'ssh')")


async def test_both_adapters_decide_alike(own_database: str) -> None:
    fill(own_database.replace("postgresql+psycopg", "postgresql"))
    engine = create_engine(own_database)
    real = EmbeddedAuthorization(engine)
    model = MemoryAuthorization(USERS, ["admin"], MEMBERS, {"c1": "ed"})
    objects = {"platform": ("*", "x"), "project": ("p1", "p2", "p3"), "credential": ("c1", "c2")}
    for user in (*USERS, "admin", "off", "ghost"):
        for kind, permissions in PERMISSIONS.items():
            assert await real.visible(user, kind) == await model.visible(user, kind), (user, kind)
            for object_id in objects[kind]:
                for permission in permissions:
                    question = (user, permission, kind, object_id)
                    assert await real.allowed(*question) == await model.allowed(*question), question
    assert await model.allowed("ed", "submit", "project", "p1")
    assert not await model.allowed("vi", "submit", "project", "p1")
    await engine.dispose()


async def test_nudges_cross_connections_and_survive_their_loss(own_database: str) -> None:
    conninfo = own_database.replace("postgresql+psycopg", "postgresql")
    listener, writer = PostgresEventBus(conninfo), PostgresEventBus(conninfo)
    heard = listener.listen("one", "two", idle_s=0.3)
    async with asyncio.timeout(20):
        assert await anext(heard) == ""
        await writer.publish("three")
        await writer.publish("two")
        assert await anext(heard) == "two"
        assert await anext(heard) == ""
        with psycopg.connect(conninfo, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        assert await anext(heard) == ""
        await writer.publish("one")
        while await anext(heard) != "one":
            await writer.publish("one")
    await writer.close()
    await heard.aclose()  # type: ignore[attr-defined]
