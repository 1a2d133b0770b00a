"""Takes adapters in: checks them against the base model, keeps their files, and registers them by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from common.adapters.records import Registered, VersionFacts
from common.adapters.registry import AdapterRegistry
from common.adapters.store import AdapterFilesError, AdapterStore, Content
from common.adapters.tidying import tidy
from common.errors import Conflict, SLMError
from models.errors import AdapterError
from worker.helper.given_up import IsGivenUp
from worker.model.base_facts import BaseFacts
from worker.model.training_summary import read_summary

if TYPE_CHECKING:
    from worker.engine.untrusted_code.client import UntrustedPrograms

T = TypeVar("T")


class AdapterIntake:
    """Adds adapters from folders and archives. Thread-safe; several workers may do the same at once.

    Every method may raise `redis.exceptions.RedisError`, and `SLMError` if the base model's files cannot be read.

    Args:
        registry: the names and versions.
        store: the files.
        base: returns the facts about the base model that this worker serves.
        offer: makes a version available to the workers of other hosts: takes its id and folder.
        other_bases: the names of the server's other base models.
    """

    def __init__(
        self,
        registry: AdapterRegistry,
        store: AdapterStore,
        base: Callable[[], BaseFacts],
        offer: Callable[[str, Path], None] = lambda _id, _folder: None,
        *,
        other_bases: Collection[str] = (),
    ) -> None:
        self._other_bases = other_bases
        self.registry = registry
        self.base = base
        self._store = store
        self._offer = offer

    def publish(
        self,
        name: str,
        archive: Path,
        *,
        max_bytes: int,
        is_given_up: IsGivenUp,
        check_base: Callable[[Path, UntrustedPrograms], None] = lambda _folder, _programs: None,
    ) -> tuple[Registered, VersionFacts | None]:
        """Register the adapter in an archive as the newest version of `name`; return it with its facts.

        The facts are None if it was deleted meanwhile. `check_base` gets the unpacked adapter before it is checked.

        Raises:
            AdapterError: the archive or the adapter cannot be used.
            InvalidRequest, Conflict: as `AdapterRegistry.register`; or the content belongs to another base model.
            GivenUp: `is_given_up` became true first.
        """
        with self._store.scratch() as scratch:
            with _untrusted_programs() as programs:
                folder = programs.unpack_adapter(archive, scratch, max_bytes, is_given_up=is_given_up)
                check_base(folder, programs)
            registered = self._add(folder, name, lambda facts: self._register(name, facts))
            return registered, self.registry.facts(registered.id)

    def publish_folder(self, name: str, folder: Path) -> tuple[Registered, VersionFacts | None]:
        """Register the adapter in a folder as `publish` does.

        Raises:
            AdapterError: it is no adapter, or does not fit the base model.
            OSError: it cannot be read, or not be kept.
            InvalidRequest, Conflict: as `AdapterRegistry.register`.
        """
        registered = self._add(folder, name, lambda facts: self._register(name, facts))
        return registered, self.registry.facts(registered.id)

    def register_folder(self, name: str, folder: Path) -> Registered | None:
        """Register the present content of a folder.

        Raises:
            AdapterError: it is no adapter, or does not fit the base model.
            OSError: it cannot be read, or not be kept.
            InvalidRequest, Conflict: as `AdapterRegistry.register_folder`, which also explains None. It is also
                the answer if the content belongs to another base model.
        """
        return self._add(folder, str(folder), lambda facts: self._register_folder(name, facts))

    def _register(self, name: str, facts: VersionFacts) -> Registered:
        if owner := self._owner(facts.id):
            raise Conflict(
                f"These files are an adapter of the base model {owner!r} already. Delete it there first.", param="base"
            )
        return self.registry.register(name, facts)

    def _register_folder(self, name: str, facts: VersionFacts) -> Registered | None:
        return None if self._owner(facts.id) else self.registry.register_folder(name, facts)

    def _owner(self, adapter_id: str) -> str | None:
        """Return the other base model of the server to which that content belongs; None if there is none."""
        known = self.registry.facts(adapter_id)
        return known.base if known is not None and known.base in self._other_bases else None

    def tidy(self) -> None:
        """Delete the files that nobody needs any more."""
        tidy(self._store, self.registry)

    def _add(self, folder: Path, shown: str, register: Callable[[VersionFacts], T]) -> T:
        """Check a copy of the adapter, then keep and register it; the store is locked for that step only.

        If the store has it already, that is checked. It may be deleted meanwhile, because nobody needed it: then it is
        copied after all.
        """
        while True:
            with self._store.copied(folder) as content:
                try:
                    return self._take(content, shown, register)
                except (AdapterError, OSError):
                    if not self._store.was_deleted(content):
                        raise

    def _take(self, content: Content, shown: str, register: Callable[[VersionFacts], T]) -> T:
        """Check, keep and register an adapter.

        It is offered before, so that nobody asks for what cannot be had, and again after that, because the API may have
        deleted it between as an adapter that nobody needs.
        """
        try:
            facts = self._facts(content.folder, content.id)
        except AdapterError as err:
            raise AdapterError(str(err).replace(repr(str(content.folder)), repr(shown))) from err
        is_new = self.registry.facts(content.id) is None
        if is_new:
            self._offer(content.id, content.folder)
        try:
            with self._store.locked():
                registered = self._kept(content, partial(register, facts))
            if is_new:
                self._offer(content.id, self._store.folder(content.id))
        except AdapterFilesError as err:
            raise AdapterError(str(err)) from err
        return registered

    def _kept(self, content: Content, register: Callable[[], T]) -> T:
        """Add the content to the store and register it; if that is refused, delete it again."""
        self._store.put(content)
        try:
            return register()
        except SLMError:
            if self.registry.facts(content.id) is None:
                self._store.remove(content.id)
            raise

    def _facts(self, folder: Path, adapter_id: str) -> VersionFacts:
        base = self.base()
        known = self.registry.facts(adapter_id)
        if known is not None and (known.base, known.base_id) == (base.name, base.id):
            return known
        return _checked(folder, adapter_id, base)


@contextmanager
def _untrusted_programs() -> Iterator[UntrustedPrograms]:
    """Start a helper for a few calls: it takes 0.1 s, and 100 MB that a worker would otherwise keep for rare use."""
    from worker.engine.untrusted_code.client import UntrustedPrograms
    from worker.engine.untrusted_code.services import SERVICES
    from worker.helper.client import Helper

    with closing(Helper(SERVICES)) as helper:
        yield UntrustedPrograms(helper)


def _checked(folder: Path, adapter_id: str, base: BaseFacts) -> VersionFacts:
    from worker.engine.loading.base_files import base_weight
    from worker.engine.lora import read_adapter

    with _untrusted_programs() as programs:
        info = programs.check_adapter(folder, base.name, base.shapes)
    # Refuses values that no answer could be computed with.
    read_adapter(info, partial(base_weight, base.source))
    return VersionFacts(
        id=adapter_id,
        base=base.name,
        base_id=base.id,
        rank=info.rank,
        modules=tuple(sorted({module.rpartition(".")[2] for module in info.ranks})),
        bytes=sum(path.stat().st_size for path in folder.iterdir()),
        summary=read_summary(folder),
    )
