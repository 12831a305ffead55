"""The thief's work on one image: every reader, every detector, each secret once with its place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from . import detect, finding, layout, mpy, vaults
from .canary import Canary, search
from .finding import Finding
from .stream import Extent, Places, Stream

MOST = 1000  # findings that are reported; nobody reads more
_EXPOSURES = {detect.LOCKED_KEY: finding.NONE, detect.CERTIFICATE: finding.NONE}
_SETTINGS = re.compile(r"(?:\.(?:env|ini|toml|txt|cfg|conf|ya?ml)|(?:^|/)\.env)\Z", re.I)
_LARGEST = 1 << 20  # bytes of a file of settings or of a module that is read
# What ESP-IDF itself keeps of a Wi-Fi network.
_WIFI = re.compile(r"\.net80211/(?:sta\.pswd|ap\.passwd|sta\.pmk|ap\.pmk_info|sta\.apinfo)\Z")

Located = tuple[Finding, tuple[Extent, ...]]


@dataclass(frozen=True)
class Contents:
    """What was found in an image; `more` is true when there was more than is listed."""

    layout: layout.Layout
    findings: list[Finding]
    records: list[vaults.Record]
    more: bool


def scan(image: bytes, canaries: Iterable[Canary] = ()) -> Contents:
    """Find partitions, files, NVS, deleted data, keys, passwords, tokens, canaries, records."""
    scanner = _Scanner(layout.read(image), list(canaries))
    return scanner.run()


class _Scanner:
    def __init__(self, parts: layout.Layout, canaries: list[Canary]) -> None:
        self._layout = parts
        self._image = parts.image
        self._canaries = canaries
        self._places = Places()
        self._left = dict.fromkeys(("harmless", "secret", finding.CANARY), 10 * MOST)
        self._more = False

    def run(self) -> Contents:
        keys: list[bytes] = []
        joined: list[Stream] = []
        found: list[Located] = []
        self._places.add(self._layout.areas())
        for files in self._layout.file_systems:
            for stream in files.streams():
                self._places.add([stream])
                if stream.name and stream.size == vaults.KEY_SIZE:
                    keys.append(stream.read(self._image))
                if len(stream.extents) > 1:
                    joined.append(stream)
                found += self._file(stream)
        for values in self._layout.nvs:
            for stream in values.streams():
                self._places.add([stream])
                if len(stream.extents) > 1:
                    joined.append(stream)
                found += self._value(stream)
        # The image as it lies there holds whatever lies in one piece; the rest is put together.
        whole = Stream("", "", (Extent(0, len(self._image)),))
        for stream in (whole, *joined):
            data = stream.read(self._image)
            found += self._detected(data, stream)
            found += self._known(data, stream)
            if not self._left["secret"]:
                break
        records = list(vaults.find(self._image, keys))
        found += self._records(records)
        found += self._keys_and_modules()
        kept = _once(found)
        # What matters first, wherever it lies: harmless things must not push it out.
        listed = sorted(
            kept, key=lambda one: (one.exposure == finding.NONE, one.kind != finding.CANARY)
        )[:MOST]
        listed.sort(key=lambda one: (one.offset, one.kind))
        return Contents(self._layout, listed, records, self._more or len(kept) > MOST)

    def _file(self, stream: Stream) -> Iterator[Located]:
        """What can only be read by somebody who knows what kind of file it is."""
        if not stream.name or stream.size > _LARGEST:
            return
        if stream.name.endswith(".mpy"):
            for one in mpy.passwords(stream.read(self._image)):
                yield self._located(one, stream)
        elif _SETTINGS.search(stream.name):
            for one in detect.plain_assignments(stream.read(self._image)):
                yield self._located(one, stream)

    def _value(self, stream: Stream) -> Iterator[Located]:
        """An NVS value whose key says that it is a secret."""
        key = stream.name.rsplit("/", 1)[-1]
        if not stream.name or not (_WIFI.search(stream.name) or detect.is_secret_name(key)):
            return
        value = stream.read(self._image)
        if len(value.strip(b"\0\xff")) >= 4:
            words = "Wi-Fi, by ESP-IDF" if _WIFI.search(stream.name) else key
            yield self._located(detect.Found(detect.PASSWORD, words, 0, len(value)), stream)

    def _detected(self, data: bytes, stream: Stream) -> Iterator[Located]:
        for one in self._limited(detect.scan(data)):
            yield self._located(one, stream)

    def _limited(self, found: Iterable[detect.Found]) -> Iterator[detect.Found]:
        """As many as anybody could use, of what is harmless and of what is not."""
        for one in found:
            budget = one.kind if one.kind == finding.CANARY else "secret"
            if _EXPOSURES.get(one.kind) == finding.NONE:
                budget = "harmless"
            if self._left[budget]:
                self._left[budget] -= 1
                yield one
            else:
                self._more = True
                if budget != "harmless":
                    return

    def _known(self, data: bytes, stream: Stream) -> Iterator[Located]:
        hits = (
            detect.Found(
                finding.CANARY,
                hit.name,
                hit.offset,
                hit.length,
                hit.form if hit.whole else f"{hit.form}, part",
            )
            for hit in search(data, self._canaries)
        )
        for one in self._limited(hits):
            yield self._located(one, stream)

    def _records(self, records: list[vaults.Record]) -> Iterator[Located]:
        for record in records:
            words = f"source {record.source_name}, generation {record.generation}, "
            words += f"opens with {record.opened}" if record.opened else "closed"
            exposure = finding.SOFT if record.opened else finding.NONE
            if record.opened == vaults.NO_KEY:
                exposure = finding.CLEAR
            one = detect.Found(finding.RECORD, words, record.offset, record.length, "sealed")
            yield self._located(one, None, exposure)

    def _keys_and_modules(self) -> Iterator[Located]:
        for region in self._layout.nvs_keys:
            words = "not encrypted, so NVS opens"
            one = detect.Found(finding.NVS_KEYS, words, region.offset, 64)
            yield self._located(one, None, finding.SOFT)
        program = self._layout.firmware
        for name in program.telling:
            words = f"{name}: its constants can be read"
            one = detect.Found(finding.SECRET_MODULE, words, program.offset, len(name))
            yield self._located(one, None)

    def _located(
        self, one: detect.Found, stream: Stream | None, exposure: str | None = None
    ) -> Located:
        """With its place: of the stream's name, or of the narrowest thing around it."""
        extents = stream.part(one.at, one.length) if stream else ()
        extents = extents or (Extent(one.at, one.length),)
        offset = extents[0].offset
        where = stream if stream and stream.place else self._places.at(offset)
        form = one.form
        if exposure is None:
            exposure = _EXPOSURES.get(one.kind, finding.CLEAR)
            if exposure == finding.CLEAR and self._layout.decrypted(offset):
                exposure, form = finding.SOFT, f"{form}, decrypted"
        found = Finding(
            one.kind,
            one.words,
            offset,
            one.length,
            where.place if where else "",
            where.state if where else "",
            form,
            exposure,
        )
        return found, extents


def _once(found: list[Located]) -> list[Finding]:
    """Each secret once: a part is dropped where the whole is known, a copy elsewhere is not."""
    covered: dict[tuple[str, str], list[Extent]] = {}
    kept = []
    for one, extents in sorted(found, key=lambda pair: (-pair[0].length, pair[0].offset)):
        seen = covered.setdefault((one.kind, one.words if one.kind == finding.CANARY else ""), [])
        if any(e.offset <= one.offset < e.offset + e.length for e in seen):
            continue
        seen.extend(extents)
        kept.append(one)
    return sorted(kept, key=lambda one: (one.offset, one.kind))
