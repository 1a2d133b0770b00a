"""Registers the adapters in the folders of this machine under the folders' names, and notices when they change."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from common.adapters.names import version_name
from common.adapters.records import Registered
from common.errors import ModelUnavailable, SLMError
from common.redis.outage import Outage
from common.settings import ROOT, Settings
from models.adapter.config import CONFIG_FILE
from models.base_model import DEFAULT_BASE_MODEL
from models.errors import AdapterError
from worker.model.intake import AdapterIntake

POLL_S = 2.0
TRAINED = ("SLMInit/cuda_lora_out", "SLMInit/cpu_lora_out")  # where the training scripts write their adapters
DEMONSTRATION = "SLMInit/demo_lora"  # shipped; belongs to the default model

log = logging.getLogger(__name__)

_Stamps = frozenset[tuple[str, int, int, int]]


def default_folder(settings: Settings) -> Path | None:
    """Return the folder of the adapter that requests without a name get, relative to `ROOT`; None if there is none.

    It is the one in the settings, else the first that was trained here, else the shipped one. Only the first of several
    base models has one.
    """
    if settings.own_base != settings.bases[0]:
        return None
    if settings.lora_path is not None:
        return settings.lora_path
    return next((Path(path) for path in _here(settings) if _is_adapter(ROOT / path)), None)


def adapter_folders(settings: Settings) -> list[Path]:
    """Return the folders to register, each once; of two with the same name, the first counts."""
    is_first = settings.own_base == settings.bases[0]
    named = [ROOT / settings.lora_path] if is_first and settings.lora_path is not None else []
    shelf = settings.adapters_dir and ROOT / settings.adapters_dir
    found = sorted(shelf.iterdir()) if shelf and shelf.is_dir() else []
    others = (*found, *(ROOT / path for path in _here(settings)))
    return list(dict.fromkeys([*named, *(folder for folder in others if _is_adapter(folder))]))


def name_of(folder: Path) -> str:
    """Return the name of the adapter in a folder: the folder's, with '-' for characters that no name has."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name).lstrip("._-")[:64]


def _here(settings: Settings) -> tuple[str, ...]:
    return (*TRAINED, DEMONSTRATION) if settings.base_model == DEFAULT_BASE_MODEL else TRAINED


def _is_adapter(folder: Path) -> bool:
    return not folder.name.startswith(".") and (folder / CONFIG_FILE).is_file()


class AdapterFolders:
    """Registers folders and keeps the alias `default` up to date; `start` makes it notice changes by itself.

    `is_elsewhere` returns whether the adapter in a folder belongs to another base model of the server.
    """

    def __init__(
        self,
        settings: Settings,
        intake: AdapterIntake,
        tidy_uploads: Callable[[], None],
        outage: Outage,
        is_elsewhere: Callable[[Path], bool] = lambda _folder: False,
    ) -> None:
        self._is_elsewhere = is_elsewhere
        self._settings = settings
        self._intake = intake
        self._tidy_uploads = tidy_uploads
        self._outage = outage
        self._serves_default = settings.own_base == settings.bases[0]
        self._lock = threading.Lock()
        self._complaints: dict[Path, str] = {}  # what was logged about a folder
        self._seen: _Stamps | None = None  # the stamps that the last registration saw
        self._present: _Stamps | None = None  # those of the last poll
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="slm-adapter-folders", daemon=True)

    def register(self) -> None:
        """Register the base model and all folders; takes milliseconds if nothing has changed.

        A folder that cannot be served is logged, once, and skipped.

        Raises:
            ModelUnavailable: the folder in `SLM_LORA_PATH` cannot be served.
            SLMError: the base model's files cannot be read.
            redis.exceptions.RedisError: Redis cannot be reached.
        """
        with self._lock:
            stamps, self._seen = self._stamps(), None
            base = self._intake.base()
            registry = self._intake.registry
            registry.note_base(base.name, base.id)
            found = self._register_all() if base.shapes else {}
            default = default_folder(self._settings)
            registered = None if default is None else found.get(ROOT / default)
            if registered is not None:
                registry.set_default(version_name(registered.name, registered.number))
            elif self._serves_default and (default is None or registry.resolve("") is None):
                registry.set_default(base.name)
            self._seen = stamps

    def start(self) -> None:
        """Start to register changes, and to delete the files that nobody needs any more."""
        self._thread.start()

    def stop(self) -> None:
        """Stop that."""
        self._stopping.set()
        self._thread.join()

    def _register_all(self) -> dict[Path, Registered]:
        found: dict[Path, Registered] = {}
        taken: set[str] = set()
        for folder in adapter_folders(self._settings):
            name = name_of(folder)
            if not self._is_named(folder) and self._is_elsewhere(folder):
                continue
            try:
                if name in taken:
                    raise AdapterError(f"an earlier folder has the name {name!r}.")
                taken.add(name)
                registered = self._intake.register_folder(name, folder)
            except (AdapterError, OSError, SLMError) as err:
                self._complain(folder, str(err))
                continue
            self._complaints.pop(folder, None)
            if registered is not None:
                found[folder] = registered
                if registered.is_new:
                    log.info("adapter %s is the content of %s", version_name(name, registered.number), folder)
        return found

    def _is_named(self, folder: Path) -> bool:
        """Return whether it is the folder in `SLM_LORA_PATH`."""
        return self._settings.lora_path is not None and folder == ROOT / self._settings.lora_path

    def _complain(self, folder: Path, text: str) -> None:
        if self._is_named(folder):
            raise ModelUnavailable(text)
        if self._complaints.get(folder) != text:
            self._complaints[folder] = text
            log.warning("the adapter in %s is not served: %s", folder, text)

    def _stamps(self) -> _Stamps:
        """Return what tells one state of the folders from another, without reading a file."""
        return frozenset(_stamps(adapter_folders(self._settings)))

    def _run(self) -> None:
        self._present = self._seen
        while not self._stopping.wait(POLL_S):
            self._outage.attempt("adapters not registered", self._poll)

    def _poll(self) -> None:
        """A boundary: a folder or disk that cannot be read must not end the thread."""
        try:
            earlier, self._present = self._present, self._stamps()
            is_complete = self._present == earlier  # nobody is writing at this moment
            if (is_complete and self._present != self._seen) or self._lacks_names():
                self.register()
            self._intake.tidy()
            self._tidy_uploads()
        except (SLMError, OSError) as err:
            log.warning("the folders of adapters could not be registered: %s", err)
            self._seen = self._present  # tries again when they change

    def _lacks_names(self) -> bool:
        """Return whether somebody has deleted the base model or the alias `default`, which this worker serves."""
        base, default = self._intake.registry.resolve_all([self._settings.own_base.name, ""])
        return base is None or (self._serves_default and default is None)


def _stamps(folders: Iterable[Path]) -> Iterator[tuple[str, int, int, int]]:
    for folder in folders:
        with suppress(OSError):  # it is being replaced
            for path in folder.iterdir():
                status = path.stat()
                yield str(path), status.st_ino, status.st_size, status.st_mtime_ns
