"""The models of the sections."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from memstack.config import (
    BuiltinEmbedder,
    ChromaEmbedded,
    ChromaServer,
    HistoryConfig,
    OllamaEmbedder,
    OllamaLLM,
    OpenAIEmbedder,
    OpenAILLM,
    PgvectorEmbedded,
    PgvectorServer,
    QdrantEmbedded,
    QdrantInMemory,
    QdrantServer,
    SectionConfig,
    Settings,
    StoreConfig,
)
from memstack.config.docs import descriptions
from memstack.config.lookup import BUILTIN
from memstack.config.sections import LimitsConfig, RetrievalConfig
from memstack.errors import ConfigError


def make(model: Any, /, **options: Any) -> Any:
    """A section from options as a file or the environment gives them, whatever their types."""
    return model(**options)


MODELS = [model for section in BUILTIN.values() for model in section.values()]


@pytest.mark.parametrize(("key", "model"), [pair for section in BUILTIN.values() for pair in section.items()])
def test_key_is_the_name_in_the_registry(key: str, model: type[SectionConfig]) -> None:
    """A section's key is the key under which its model stands."""
    needed: dict[str, Any] = {"model": "m"} if "model" in model.model_fields else {}
    if model in (QdrantServer, PgvectorServer):
        needed["host"] = "localhost"
    assert model(**needed).key == key


@pytest.mark.parametrize("model", [Settings, *MODELS])
def test_every_option_is_described(model: type[BaseModel]) -> None:
    """Every option says what it means, and all but provider and mode what happens without it."""
    described = descriptions(model)
    for name, field in model.model_fields.items():
        text = described[field.alias or name]
        assert text.endswith(".")
        assert name in {"provider", "mode", "history", "limits"} or "efault" in text


@pytest.mark.parametrize("model", [Settings, HistoryConfig, LimitsConfig, RetrievalConfig, *MODELS])
def test_the_default_that_is_told_is_the_one(model: type[BaseModel]) -> None:
    """Where a default is a number, a switch or a word, its description names it."""
    described = descriptions(model)
    for name, field in model.model_fields.items():
        if name in {"provider", "mode"} or type(field.default) not in (bool, int, float, str):
            continue
        told = re.search(r"Default: (?:\w+, else )?(\S+?)[.,]?(?:\s|$)", described[field.alias or name])
        assert told is not None, name
        meant = str(field.default).removesuffix(".0")
        assert told[1] == (meant.lower() if isinstance(field.default, bool) else meant), name


@pytest.mark.parametrize(
    "name", [name for name, field in RetrievalConfig.model_fields.items() if field.default is not None]
)
def test_a_part_of_the_ranking_can_be_switched(name: str) -> None:
    """``true`` is the default of a weight, and ``false`` is 0; counts are no switches."""
    default = RetrievalConfig.model_fields[name].default
    if isinstance(default, float):
        assert getattr(make(RetrievalConfig, **{name: True}), name) == default
        assert getattr(make(RetrievalConfig, **{name: False}), name) == 0
    else:
        with pytest.raises(ValidationError):
            make(RetrievalConfig, **{name: True})


def named(model: type[StoreConfig], name: str) -> StoreConfig:
    """A section with a collection of this name; the base of a third party's has no provider by itself."""
    options = {"provider": "x"} if model is StoreConfig else dict[str, str]()
    return model.model_validate({**options, "collection": name})


@pytest.mark.parametrize("model", [QdrantInMemory, QdrantEmbedded, ChromaEmbedded, PgvectorEmbedded, StoreConfig])
@pytest.mark.parametrize("name", ["abc", "a-1", "Mem_0", "a" * 48, "memories"])
def test_collection_names_that_every_engine_takes(model: type[StoreConfig], name: str) -> None:
    """3 to 48 letters, digits, `_`, `-` make a name."""
    assert named(model, name).collection == name


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (QdrantInMemory, ["m", "a.b", "_a", "1a", "a_", "..a", "a" * 240, "chroma"]),
        (QdrantEmbedded, ["m", "a.b", "_a", "1a", "a_", "..a", "a" * 240]),
        (ChromaEmbedded, ["a.b", "1ab", "a" * 503]),
        (ChromaServer, ["a.b", "1ab", "a" * 503]),
        (PgvectorEmbedded, ["m", "a.b", "_a", "1a", "a_", "..a"]),
    ],
)
def test_collection_names_that_an_engine_takes(model: type[StoreConfig], names: list[str]) -> None:
    """Each engine has its own rule, so that a name that Mem0 gave need not change."""
    assert [named(model, name).collection for name in names] == names


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (QdrantInMemory, ["a" * 241]),
        (QdrantEmbedded, ["a" * 241, "chroma", "postgres", "history.db", "history.db-wal", "Chroma", "History.DB"]),
        (ChromaEmbedded, ["m", "ab", "_ab", "ab-", "ab.", ".ab", "a" * 504]),
        (PgvectorEmbedded, ["a" * 49]),
        (StoreConfig, ["m", "ab", "1ab", "_ab", "ab-", "a.b", "a" * 49]),
    ],
)
def test_other_collection_names_are_refused(model: type[StoreConfig], names: list[str]) -> None:
    """What an engine would refuse, or keep elsewhere, is refused; so is what is no name to any of them."""
    for name in [*names, "", ".", "..", "a.", "a b", "ab\n", "äbc", "a/b", "a\\b", 'a"b', "a%b"]:
        with pytest.raises(ValidationError):
            named(model, name)


def test_sections_are_frozen_and_say_so_without_the_value() -> None:
    """An option cannot be changed, and the error does not show what it was to become."""
    section: Any = OpenAIEmbedder(model="m")
    with pytest.raises(AttributeError, match="api_key cannot be changed") as caught:
        section.api_key = "sk-hunter2"
    assert "hunter2" not in str(caught.value)
    with pytest.raises(AttributeError, match="frozen"):
        section.anything = "sk-hunter2"


def test_equal_sections_are_equal_and_hash_alike() -> None:
    """Sections are values."""
    assert QdrantEmbedded(path=Path("a")) == QdrantEmbedded(path=Path("a"))
    assert len({QdrantEmbedded(path=Path("a")), QdrantEmbedded(path=Path("a"))}) == 1


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("localhost", "http://localhost:11434"),
        ("localhost:1234", "http://localhost:1234"),
        (":1234", "http://127.0.0.1:1234"),
        ("0.0.0.0", "http://127.0.0.1:11434"),  # noqa: S104  # called, not bound
        ("0.0.0.0:1234", "http://127.0.0.1:1234"),
        ("::", "http://127.0.0.1:11434"),
        ("::1", "http://[::1]:11434"),
        ("[::1]:1234", "http://[::1]:1234"),
        ("http://[::]:1234", "http://127.0.0.1:1234"),
        ("http://gpu", "http://gpu"),
        ("https://gpu.example/ollama/", "https://gpu.example/ollama"),
        (" gpu ", "http://gpu:11434"),
    ],
)
def test_ollama_host_is_read_as_ollama_reads_it(given: str, meant: str) -> None:
    """All forms of OLLAMA_HOST become one URL; "all interfaces" is this machine to a client."""
    assert OllamaLLM(model="m", host=given).host == meant


@pytest.mark.parametrize(
    "address",
    ["", " ", "ftp://x", "http://", "http://a b", "http://a\\b", "http://a:x", "http://a:99999", "http://[::1"],
)
@pytest.mark.parametrize("option", ["host", "base_url", "url"])
def test_what_is_no_address_is_refused(option: str, address: str) -> None:
    """Addresses are looked at when the configuration is read, not when they are dialled."""
    model: Any = {"host": OllamaEmbedder, "base_url": OpenAIEmbedder, "url": QdrantServer}[option]
    with pytest.raises(ValidationError):
        model(**{option: address}, **({} if option == "url" else {"model": "m"}))


@pytest.mark.parametrize("url", ["http://localhost:6333", "https://x.cloud.qdrant.io", "localhost:6333", "qdrant"])
def test_qdrant_urls(url: str) -> None:
    """Qdrant's URL may leave out the scheme, as its client allows."""
    assert QdrantServer(url=url).url == url


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("postgresql://u:p@h/d", "postgresql://u:p@h/d"),
        ("postgres://h/d", "postgresql://h/d"),
        ("postgresql+psycopg2://u:p@h/d", "postgresql://u:p@h/d"),
        (" postgresql:///d\n", "postgresql:///d"),
        ("host=/run dbname=d", "host=/run dbname=d"),
    ],
)
def test_postgres_urls(given: str, meant: str) -> None:
    """PostgreSQL is addressed as libpq takes it, and as SQLAlchemy writes it."""
    url = make(PgvectorServer, url=given).url
    assert url is not None
    assert url.get_secret_value() == meant


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app:hunter%zz@localhost/app",
        "postgresql://app:hunter%00@localhost/app",
        "postgresql://app:hunt@er@localhost:1/app",
        "postgresql://app:hunt/er@localhost/app",
        "postgresql://app:hunt?er/@localhost/app",
        "postgresql://localhost:99999999/app",
        "postgresql://localhost:0/app",
        "postgresql://h1:5432,h2:x/app",
        "postgresql://[::1]:99999/app",
        "postgresql://h/app?port=99999",
        "postgresql://h/app?host=app:hunter@h",
        "host=h port=99999",
        "host=app:hunter@h",
    ],
)
def test_postgres_urls_that_libpq_reads_otherwise_are_refused(url: str) -> None:
    """A password that is not encoded makes no host, a port is one, and the refusal quotes neither."""
    with pytest.raises(ValidationError) as caught:
        make(PgvectorServer, url=url)
    assert "hunt" not in str(caught.value)
    assert "localhost" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app:hunt%40er%25@h1:5432,[::1]:5433,h3/app?sslmode=require&host=/run&port=",
        "postgresql://app:hunt?er@h/app",
        "postgresql://%2Fvar%2Frun%2Fa%40b/app",
        "postgresql://app@/app?host=@abstract",
        "host=/run/a@b port=5432,5433 password='a@b%'",
    ],
)
def test_postgres_urls_that_hold_what_is_special(url: str) -> None:
    """What is encoded, or special to nobody, is taken."""
    assert make(PgvectorServer, url=url).host is None


@pytest.mark.parametrize("model", [ChromaServer, PgvectorServer, QdrantServer])
def test_a_host_holds_no_password(model: Any) -> None:
    """A host with an @ is refused without quoting it: it would be shown in every error of the store."""
    with pytest.raises(ValidationError) as caught:
        model(host="app:hunter2@localhost")
    assert "hunter2" not in str(caught.value)
    assert "holds an @" in str(caught.value)


def test_the_name_of_an_abstract_socket_is_a_host() -> None:
    """Libpq writes it with an @ before it."""
    assert make(PgvectorServer, host="@postgres,h2").host == "@postgres,h2"


@pytest.mark.parametrize("url", ["", "mysql://h/d", "localhost", "http://h"])
def test_other_urls_are_refused_for_postgres(url: str) -> None:
    """Another database's URL is refused."""
    with pytest.raises(ValidationError):
        make(PgvectorServer, url=url)


@pytest.mark.parametrize("options", [{}, {"url": "http://a", "host": "b"}], ids=["neither", "both"])
@pytest.mark.parametrize("model", [QdrantServer, PgvectorServer])
def test_a_server_has_one_place(model: Any, options: dict[str, str]) -> None:
    """A server is named by a URL or by a host, not by both."""
    if model is PgvectorServer and options:
        options = {**options, "url": "postgresql://a/b"}
    with pytest.raises(ValidationError):
        make(model, **options)


@pytest.mark.parametrize("option", ["port", "user", "password", "dbname"])
def test_parts_beside_a_postgres_url_are_refused(option: str) -> None:
    """What a URL says cannot be said a second time."""
    with pytest.raises(ValidationError, match=option):
        make(PgvectorServer, url="postgresql://a/b", **{option: "1"})


def test_pool_sizes_are_in_order() -> None:
    """The smallest pool is not larger than the largest."""
    with pytest.raises(ValidationError, match="pool_min"):
        PgvectorServer(host="h", pool_min=3, pool_max=2)
    assert PgvectorServer(host="h", pool_min=2, pool_max=2).pool_min == 2


@pytest.mark.parametrize("schema", ["public", "_a1", "A" * 63])
def test_schema_names(schema: str) -> None:
    """The option is called `schema`; it is a plain SQL name."""
    assert PgvectorServer(host="h", schema=schema).schema_name == schema


@pytest.mark.parametrize("schema", ["", "a-b", "1a", 'a"; drop', "a" * 64, "a.b"])
def test_other_schema_names_are_refused(schema: str) -> None:
    """What would have to be quoted is no schema name."""
    with pytest.raises(ValidationError):
        PgvectorServer(host="h", schema=schema)


@pytest.mark.parametrize("secret", ["sk-1\n", "  sk-1 "])
def test_keys_are_stripped(secret: str) -> None:
    """The line break that `$(cat key)` brings along is not part of the key."""
    key = make(OpenAILLM, model="m", api_key=secret).api_key
    assert key is not None
    assert key.get_secret_value() == "sk-1"


@pytest.mark.parametrize("secret", ["", " ", "a\nb", "a\rb", "ключ", "a\0b"])
@pytest.mark.parametrize(
    ("model", "option"), [(OpenAILLM, "api_key"), (QdrantServer, "api_key"), (ChromaServer, "token")]
)
def test_keys_that_no_header_carries_are_refused(model: Any, option: str, secret: str) -> None:
    """A key with a line break inside would be shown by the HTTP library's error; it does not get there."""
    needed = {"model": "m"} if model is OpenAILLM else {"host": "h"}
    with pytest.raises(ValidationError):
        make(model, **needed, **{option: secret})


@pytest.mark.parametrize("headers", [{"X-A": "b"}, '{"X-A": "b"}'])
def test_headers_are_a_mapping_or_json(headers: Any) -> None:
    """Headers come as a mapping, or as JSON from the environment; their values are secrets."""
    section = make(OpenAILLM, model="m", headers=headers)
    assert section.headers["X-A"].get_secret_value() == "b"
    assert "'b'" not in repr(section)


@pytest.mark.parametrize("headers", ["X-A: b", "[1]", {"a b": "c"}, {"": "c"}, {"a": "b\nc"}, {"a": 1.5}])
def test_other_headers_are_refused(headers: Any) -> None:
    """Names and values must be what HTTP can carry."""
    with pytest.raises(ValidationError):
        make(OpenAILLM, model="m", headers=headers)


@pytest.mark.parametrize(
    ("given", "meant"), [("5m", "5m"), ("1h30m", "1h30m"), ("-1", -1), (300, 300), ("300", 300), ("-1m", "-1m")]
)
def test_keep_alive(given: Any, meant: Any) -> None:
    """Ollama takes seconds as a number, or a duration with its unit; text of digits alone is a number."""
    assert OllamaLLM(model="m", keep_alive=given).keep_alive == meant


@pytest.mark.parametrize("value", ["", "m5", "5 minutes", "5 m", 1.5, None])
def test_other_keep_alives_are_refused(value: Any) -> None:
    """A duration without a unit, or with one that Ollama does not know, is refused."""
    with pytest.raises(ValidationError):
        OllamaLLM(model="m", keep_alive=value)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (OpenAIEmbedder, {"batch_size": 0}),
        (OpenAIEmbedder, {"batch_size": 2049}),
        (OpenAIEmbedder, {"dimensions": 0}),
        (OpenAIEmbedder, {"timeout": 0}),
        (OpenAIEmbedder, {"timeout": float("inf")}),
        (OpenAIEmbedder, {"timeout": float("nan")}),
        (OpenAIEmbedder, {"max_retries": -1}),
        (OpenAIEmbedder, {"concurrency": 0}),
        (OpenAILLM, {"temperature": 2.1}),
        (OpenAILLM, {"top_p": 0}),
        (OpenAILLM, {"max_tokens": 0}),
        (OpenAILLM, {"reasoning_effort": "enormous"}),
        (OllamaLLM, {"num_ctx": 0}),
        (OllamaLLM, {"model": " "}),
    ],
)
def test_numbers_out_of_range_are_refused(model: Any, options: dict[str, Any]) -> None:
    """Every number has its bounds."""
    with pytest.raises(ValidationError):
        make(model, **{"model": "m", **options})


def _kinds(annotation: Any) -> set[Any]:
    """What an annotation is made of."""
    return {annotation}.union(*map(_kinds, get_args(annotation)))


@pytest.mark.parametrize("model", [*MODELS, LimitsConfig, RetrievalConfig])
@pytest.mark.parametrize("value", [True, False])
def test_a_bool_is_no_number(model: type[BaseModel], *, value: bool) -> None:
    """``max_text: yes`` is not 1: an option that takes a number refuses true and false, but for weights of a search."""
    for name, field in model.model_fields.items():
        weight = model is RetrievalConfig and field.annotation is float
        if not weight and not _kinds(field.annotation).isdisjoint({int, float}):
            with pytest.raises(ValidationError, match="is a bool, not a number"):
                make(model, **{field.alias or name: value})


@pytest.mark.parametrize("port", [0, 65536, -1, "http"])
def test_ports_are_ports(port: Any) -> None:
    """A port is a number from 1 to 65535."""
    with pytest.raises(ValidationError):
        ChromaServer(port=port)


@pytest.mark.parametrize(("given", "meant"), [("a/b", "a/b"), ("~/x", "home/x"), ("./a/../b", "b"), (".", ".")])
def test_paths_are_absolute(given: str, meant: str, tmp_path: Path) -> None:
    """A path hangs on the working directory; ``~`` is the home folder."""
    assert QdrantEmbedded(path=Path(given)).path == tmp_path / meant
    assert HistoryConfig(path=Path(given)).path == tmp_path / meant


@pytest.mark.parametrize("path", ["", "  ", "a\0b", "a\ud800b", "~nobody-of-this-name/x"])
def test_what_is_no_path_is_refused(path: str) -> None:
    """An empty path is not the working directory."""
    with pytest.raises(ValidationError):
        make(QdrantEmbedded, path=path)


def test_unknown_options_are_refused() -> None:
    """A section takes its own options only."""
    with pytest.raises(ValidationError, match="extra_forbidden"):
        make(BuiltinEmbedder, model="m")


def test_only_the_store_in_memory_is_not_persistent() -> None:
    """A store says whether it outlives the process, and where its folder is."""
    assert not QdrantInMemory().persistent
    assert QdrantInMemory().folder is None
    assert QdrantServer(host="h").persistent
    assert QdrantServer(host="h").folder is None
    assert QdrantEmbedded(path=Path("/x")).folder == Path("/x")


def test_how_many_are_reranked_says_nothing_without_a_reranker() -> None:
    """`retrieval.rerank` is refused where no reranker is named, which it would be for."""
    with pytest.raises(ConfigError, match=r"retrieval\.rerank: .*Name a `reranker`"):
        Settings.load({"retrieval": {"rerank": 9}})
    assert Settings.load({"retrieval": {"rerank": 9, "reranker": "my_app.score"}}).retrieval.rerank == 9
