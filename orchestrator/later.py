"""What a registry names, imported when it is asked for: a node has the memory of what it uses."""

from importlib import import_module
from typing import Iterator, Mapping, TypeVar

T = TypeVar("T")


class Later(Mapping[str, T]):
    """By its name a value of a module of one package."""

    def __init__(self, package: str, places: Mapping[str, str]) -> None:
        """places: name -> MODULE.VALUE."""
        self._package, self._places = package, dict(places)

    def __getitem__(self, name: str) -> T:
        module, _, value = self._places[name].rpartition(".")
        found: T = getattr(import_module(f"{self._package}.{module}"), value)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
