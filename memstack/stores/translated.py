"""What a third party's engine raises becomes a `StoreError`. Our own stores translate their engines themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction
from types import FunctionType, TracebackType
from typing import Any

from memstack.errors import MemstackError, StoreError

__all__ = ["failed", "is_awaited", "translate"]


def failed(store: Any, what: str, error: Exception) -> StoreError:
    """The error for what an engine raised: its kind alone, since its words may hold a secret or a text.

    Args:
        store: the store.
        what: which method failed.
        error: what it raised.
    """
    label = getattr(store, "label", type(store).__name__)
    return StoreError(label, f"`{what}` failed ({type(error).__name__})", "The cause of this error has its words.")


def is_awaited(found: object) -> bool:
    """Whether something is a function whose answer has to be awaited."""
    return iscoroutinefunction(found) or isasyncgenfunction(found)


def translate(kind: type, contract: type) -> None:
    """Wrap each method of a contract that a class writes itself, or takes from a class that is not of the contract.

    Args:
        kind: the class.
        contract: `memstack.stores.base.Store`.
    """
    for name in dir(contract):
        owner = next(base for base in kind.__mro__ if name in vars(base))
        known = owner in contract.__mro__ or (owner is not kind and issubclass(owner, contract))
        found = vars(owner)[name]
        plain = isinstance(found, FunctionType) and not is_awaited(found)  # those are refused elsewhere
        if plain and not name.startswith("_") and not known:
            setattr(kind, name, _translated(name, found))


def _translated(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _failing(self, name):
            result = method(self, *args, **kwargs)
        if isinstance(result, Iterator):
            return _iterated(self, name, result)
        return _Block(self, name, result) if name == "exclusive" else result

    return call


def _iterated(store: Any, name: str, rows: Iterator[Any]) -> Iterator[Any]:
    """What is only done when the next one is asked for."""
    with _failing(store, name):
        yield from rows


@contextmanager
def _failing(store: Any, name: str) -> Iterator[None]:
    """What an engine raises in a block is a `StoreError`; our own errors stay what they are."""
    try:
        yield
    except MemstackError:
        raise
    except Exception as error:
        raise failed(store, name, error) from error


class _Block(AbstractContextManager[object]):
    """A block whose entering and leaving may fail; what is raised inside of it stays what it is."""

    def __init__(self, store: Any, name: str, inner: AbstractContextManager[object]) -> None:
        self._store = store
        self._name = name
        self._inner = inner

    def __enter__(self) -> object:
        with _failing(self._store, self._name):
            return self._inner.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, inside: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        try:
            return self._inner.__exit__(kind, inside, traceback)
        except MemstackError:
            raise
        except Exception as error:
            if error is inside:
                raise
            raise failed(self._store, self._name, error) from error
