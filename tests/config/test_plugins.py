"""Sections of third parties."""

from __future__ import annotations

import sys
from collections.abc import Callable
from json import JSONDecoder
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest
from jsonschema import Draft202012Validator
from pydantic import Field

from memstack.config import LocalPath, SectionConfig, Settings, StoreConfig
from memstack.config.docs import descriptions
from memstack.config.schema import config_schema
from memstack.errors import ConfigError, MissingDependency, UnknownName
from memstack.registry import Registry

Write = Callable[..., Path]


class AcmeStore(StoreConfig, frozen=True):
    """Acme's store."""

    provider: Literal["acme"] = "acme"
    """Acme."""
    mode: str | None = None
    """Acme's own word. Default: none."""
    host: str = "localhost"
    """Host of the server. Default: localhost."""
    certificate: LocalPath | None = None
    """File of the certificate. Default: none."""


class CloudStore(StoreConfig, frozen=True):
    """Qdrant in somebody's cloud."""

    provider: Literal["qdrant"] = "qdrant"
    """Qdrant."""
    mode: Literal["cloud"] = "cloud"
    """In the cloud."""
    region: str
    """Region."""


class AcmeEmbedder(SectionConfig, frozen=True):
    """Acme's embedder."""

    provider: Literal["acme"] = "acme"
    """Acme."""
    weight: float = 1.0
    """Weight. Default: 1."""


class Classes:
    """What a third party's entry points name."""

    class Store:
        config_model = AcmeStore

    class Cloud:
        config_model = CloudStore

    class Provider:
        embedder_config = AcmeEmbedder
        llm_config = None

    class Nothing:
        pass

    class Wrong:
        config_model = AcmeEmbedder
        embedder_config = llm_config = dict


class FakeRegistry:
    """The part of `memstack.registry.Registry` that configuration asks."""

    def __init__(self, entries: dict[str, Any]) -> None:
        self.entries = entries
        self.asked: list[str] = []

    def names(self) -> list[str]:
        self.asked.append("*")
        return sorted(self.entries)

    def told(self, name: str) -> str:
        return f"the plug-in {name!r}"

    def load(self, name: str, where: str) -> Any:
        self.asked.append(name)
        if isinstance(self.entries[name], str):
            raise MissingDependency(where, self.entries[name], name)
        return self.entries[name]


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> tuple[FakeRegistry, FakeRegistry]:
    stores = FakeRegistry(
        {
            "qdrant:embedded": None,
            "acme": Classes.Store,
            "qdrant:cloud": Classes.Cloud,
            "empty": Classes.Nothing,
            "wrong": Classes.Wrong,
            "absent": "absent_client",
        }
    )
    providers = FakeRegistry(
        {
            "builtin": None,
            "none": None,
            "acme": Classes.Provider,
            "alias": Classes.Provider,
            "wrong": Classes.Wrong,
            "absent": "absent_client",
        }
    )
    monkeypatch.setattr("memstack.registry.STORES", stores)
    monkeypatch.setattr("memstack.registry.PROVIDERS", providers)
    return stores, providers


def test_a_third_partys_sections_are_validated_by_its_models() -> None:
    """A provider that is not ours brings the model of its section."""
    settings = Settings.load(
        {
            "vector_store": {"provider": "acme", "host": "h", "mode": "fast"},
            "embedder": {"provider": "acme", "weight": "2"},
        }
    )
    assert settings.vector_store == AcmeStore(host="h", mode="fast")
    assert settings.embedder == AcmeEmbedder(weight=2)
    assert (AcmeStore().key, settings.embedder.key) == ("acme", "acme")
    assert settings.origins["embedder.weight"] == "mapping"
    assert settings.masked()["vector_store"]["host"] == "h"


def test_a_third_party_may_add_a_mode_to_an_engine_of_ours() -> None:
    """`qdrant:cloud` stands beside our modes, and is among the choices."""
    settings = Settings.load({"vector_store": {"provider": "qdrant", "mode": "cloud", "region": "eu"}})
    assert settings.vector_store.key == "qdrant:cloud"
    with pytest.raises(UnknownName, match="Did you mean 'cloud'"):
        Settings.load({"vector_store": {"provider": "qdrant", "mode": "clod"}})


def test_unknown_providers_are_answered_with_all_choices() -> None:
    """Ours and theirs are listed."""
    with pytest.raises(UnknownName, match="Did you mean 'acme'") as caught:
        Settings.load({"vector_store": {"provider": "acmee"}})
    assert caught.value.choices == ("absent", "acme", "chroma", "empty", "pgvector", "qdrant", "wrong")
    with pytest.raises(UnknownName) as caught:
        Settings.load({"embedder": {"provider": "nobody"}})
    assert caught.value.choices == ("absent", "acme", "alias", "builtin", "ollama", "openai", "wrong")


def test_unknown_options_are_answered_with_the_models() -> None:
    """A typo in a third party's section gets its options."""
    with pytest.raises(UnknownName, match=r"embedder\.wait: .*Did you mean 'weight'"):
        Settings.load({"embedder": {"provider": "acme", "wait": 1}})


def test_ours_are_found_without_asking(registries: tuple[FakeRegistry, FakeRegistry]) -> None:
    """Entry points are read only for names that are not ours: that reads every installed package."""
    Settings.load({"vector_store": {"provider": "chroma", "path": "a"}, "llm": {"provider": "openai", "model": "m"}})
    assert registries[0].asked == registries[1].asked == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"llm": {"provider": "acme"}},
            r"llm\.provider: the plug-in 'acme' has no `llm_config`\. Choose another provider",
        ),
        ({"vector_store": {"provider": "empty"}}, r"vector_store\.provider: the plug-in 'empty' has no `config_model`"),
        (
            {"vector_store": {"provider": "wrong"}},
            r"no `config_model` that is a subclass of memstack\.config\.StoreConfig",
        ),
        (
            {"embedder": {"provider": "wrong"}},
            r"no `embedder_config` that is a subclass of memstack\.config\.SectionConfig",
        ),
        ({"embedder": {"provider": "alias"}}, r"the plug-in 'alias' has a section for 'acme'\. Tell its author"),
    ],
)
def test_a_plugin_without_a_proper_model_is_refused(options: dict[str, Any], says: str) -> None:
    """What a plug-in lacks is told by name."""
    with pytest.raises(ConfigError, match=says):
        Settings.load(options)


@pytest.mark.parametrize("section", ["vector_store", "embedder", "llm"])
def test_a_plugin_whose_package_is_missing_is_told_as_such(section: str) -> None:
    """The registry's error comes through as it is: the pip command."""
    with pytest.raises(MissingDependency, match="pip install"):
        Settings.load({section: {"provider": "absent"}})


def test_its_paths_hang_on_the_file(write: Write) -> None:
    """Any option of a third party that is a path is treated like ours."""
    path = write("vector_store: {provider: acme, certificate: c.pem}", "deep/memstack.yaml")
    store = Settings.load(path).vector_store
    assert isinstance(store, AcmeStore)
    assert store.certificate == path.parent / "c.pem"


def test_its_hosts_are_examined_offline() -> None:
    """Options that are called like addresses are taken for addresses."""
    Settings.load({"vector_store": {"provider": "acme"}}, offline=True)
    with pytest.raises(ConfigError, match=r"vector_store\.host: points to another machine"):
        Settings.load({"vector_store": {"provider": "acme", "host": "h"}}, offline=True)


def test_it_is_in_the_schema() -> None:
    """An editor knows the sections of installed plug-ins; those that cannot be loaded are left out."""
    validator = Draft202012Validator(config_schema())
    validator.validate({"vector_store": {"provider": "acme", "host": "h"}, "embedder": {"provider": "acme"}})
    assert not validator.is_valid({"embedder": {"provider": "acme", "wait": 1}})
    assert not validator.is_valid({"llm": {"provider": "acme"}})
    assert (
        config_schema()["$defs"]["AcmeStore"]["properties"]["host"]["description"]
        == "Host of the server. Default: localhost."
    )


@pytest.mark.parametrize("file", ["/nowhere/frozen.py", None])
def test_options_without_a_source_are_described_by_their_fields(
    file: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a frozen application, where there is no source to be read, what a field says itself is left."""
    module = ModuleType("frozen")
    if file is not None:
        module.__file__ = file
    monkeypatch.setitem(sys.modules, "frozen", module)
    told: Any = Field(default=1, description="Told\n  here.")
    body = {"__module__": "frozen", "__annotations__": {"told": int, "untold": int}, "told": told, "untold": 2}
    model: Any = type("Frozen", (SectionConfig,), body)
    found = descriptions(model)
    assert found["told"] == "Told here."
    assert "untold" not in found
    assert found["provider"] == "Who provides it."


class PlainStore(StoreConfig, frozen=True):
    """A store that runs in one way only."""

    provider: Literal["plain"] = "plain"
    """Plain."""


def test_a_mode_that_a_plugin_does_not_know_is_refused(registries: tuple[FakeRegistry, FakeRegistry]) -> None:
    """A mode is an error where the plug-in's section says nothing of one: it would be ignored."""
    registries[0].entries["plain"] = type("Plain", (), {"config_model": PlainStore})
    assert Settings.load({"vector_store": {"provider": "plain"}}).vector_store.key == "plain"
    with pytest.raises(ConfigError, match=r"vector_store\.mode: the store 'plain' has no modes\. Leave it out"):
        Settings.load({"vector_store": {"provider": "plain", "mode": "embedded"}})


def test_an_entry_of_this_process_says_what_it_needs() -> None:
    """It is no entry of ours, its name is taken from then on, and a package that it lacks is told as that."""
    registry: Registry[Any] = Registry("thing", "memstack.things", {})
    registry.register("whole", "json:JSONDecoder", module="json")
    registry.register("lacking", "json:JSONDecoder", module="no_such_package", extra="things")
    assert (registry.names(), registry.is_ours("whole")) == (["lacking", "whole"], False)
    assert registry.load("whole", "thing") is JSONDecoder
    with pytest.raises(MissingDependency, match=r"pip install \"memstack\[things\]\""):
        registry.load("lacking", "thing")
    with pytest.raises(ConfigError, match="is registered already"):
        registry.register("whole", "json:JSONEncoder")
