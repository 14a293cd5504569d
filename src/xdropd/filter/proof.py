"""The proof that maps hold a state, for the process after this one: then it compares nothing and reads nothing again.

A memory file in the store has the state in force, in columns, and the number of the generation that holds it. It is
withdrawn before a map of that generation is changed, and given again once all is quiet; a swap needs no word, for
another number is in force then. Without a proof the next process compares everything.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

import numpy as np

from xdropd.columns.listing import Listing
from xdropd.columns.packing import Head, packed, unpacked
from xdropd.columns.prefixes import Column
from xdropd.filter.store import Store
from xdropd.host.memoryfile import MemoryFile
from xdropd.kernel.generation import Generation
from xdropd.rules.allow import Exempt, Exempting
from xdropd.rules.winners import Source, State

_FORMAT = 3

NumberOf = Callable[[Listing], int]
"""The number by which a listing is named in what is told."""


class Proven(NamedTuple):
    """The state that the generation in force holds, and what else was told with it, which names listings by number."""

    state: State
    listings: list[Listing]
    others: Any


class _Place(NamedTuple):
    """Where a listing lies in the file."""

    start: int
    length: int
    head: Head


class Proof:
    """See the module."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._file = MemoryFile()
        self._is_kept = False
        self._places: WeakKeyDictionary[Listing, _Place] = WeakKeyDictionary()
        self._given: tuple[int, ref[State]] | None = None
        self.withdrawals = 0

    @property
    def descriptor(self) -> int:
        """Of the file, which the store keeps from the first proof on."""
        return self._file.descriptor

    def is_given_for(self, generation: Generation, state: State) -> bool:
        """Whether it says that this generation holds this state."""
        return self._given is not None and self._given == (generation.number, ref(state))

    def withdraw(self) -> None:
        """Before a map is changed that it is about."""
        self.withdrawals += 1
        self._given = None
        self._file.withdraw()

    # ---- giving ----

    def prepare(
        self, generation: Generation, state: State, withdrawals: int, others: Callable[[NumberOf], Any]
    ) -> Callable[[], bool]:
        """Write down all of it, beside what is valid now. What is returned makes it valid, unless it is outdated.

        `withdrawals`: how many there were when the generation held the state. `others` returns what JSON can carry.
        Long, and may be done in another thread; what is returned may not. Raises OSError where there is no memory.
        """
        file = self._file
        places: list[_Place] = []
        numbers: dict[Listing, int] = {}

        def number_of(listing: Listing) -> int:
            if listing not in numbers:
                if listing not in self._places:
                    head, columns = packed(listing)
                    self._places[listing] = _Place(*file.append(columns), head)
                numbers[listing] = len(places)
                places.append(self._places[listing])
            return numbers[listing]

        told = {
            "format": _FORMAT,
            "generation": generation.number,
            "maps": generation.bookkeeping(),
            "sources": [
                [
                    each.name,
                    each.number,
                    each.reason,
                    each.is_file,
                    each.action,
                    number_of(each.listing),
                    number_of(each.listing if each.written is None else each.written),
                    each.since_s,
                ]
                for each in state.sources
            ],
            "exempt": [[each.kind, each.source, number_of(each.listing)] for each in state.exempt.sources],
            "others": others(number_of),
        }
        told["listings"] = places
        text = file.append([np.frombuffer(json.dumps(told).encode(), np.uint8)])

        def give() -> bool:
            if self.withdrawals != withdrawals:
                return False
            file.declare(text, ((place.start, place.length) for place in places))
            if not self._is_kept:
                self._store.keep_proof(self.descriptor)
                self._is_kept = True
            self._places = WeakKeyDictionary({each: self._places[each] for each in numbers})
            self._given = generation.number, ref(state)
            return True

        return give

    # ---- taking over ----

    def found(self, descriptor: int | None, generation: Generation | None) -> Proven | None:
        """What the process before has proven of the generation in force; None if that is nothing."""
        if descriptor is None:
            return None
        os.close(self.descriptor)
        self._file, self._is_kept = MemoryFile(descriptor), True
        text = self._file.text
        if text is not None and generation is not None:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                return self._read(json.loads(text), generation)
        return None

    def _read(self, told: dict[str, Any], generation: Generation) -> Proven | None:
        if told["format"] != _FORMAT or told["generation"] != generation.number:
            return None
        listings = []
        for start, length, head in told["listings"]:
            listing = unpacked(head, _Taking(self._file, start))
            self._places[listing] = _Place(start, length, head)
            listings.append(listing)
        sources = [
            Source(name, number, listings[listing], reason, is_file, action, listings[written], since_s)
            for name, number, reason, is_file, action, listing, written, since_s in told["sources"]
        ]
        exempt = Exempt(Exempting(kind, source, listings[number]) for kind, source, number in told["exempt"])
        generation.take_over_bookkeeping(told["maps"])
        state = State(sources, exempt)
        self._given = generation.number, ref(state)
        return Proven(state, listings, told["others"])


class _Taking:
    """Columns, one behind the other."""

    def __init__(self, file: MemoryFile, start: int) -> None:
        self._file, self._at = file, start

    def __call__(self, kind: np.dtype[Any], count: int) -> Column:
        found = self._file.read(self._at, kind, count)
        self._at += found.nbytes
        return found
