"""What becomes of a mode that is refused, by error numbers that no driver here answers with."""

import errno
import os
from types import SimpleNamespace

import pytest

from xdropd.errors import KernelError, NotAttachable
from xdropd.kernel import attachment
from xdropd.kernel.attachment import Prepared, attach

BUSY, EXISTS, TAKES = errno.EBUSY, errno.EEXIST, 0


class Mode:
    """One way to attach, which answers with `number`."""

    root_program = "xdrop_root"

    def __init__(self, number: int) -> None:
        self._number = number

    def attach(self, _program: int, _ifindex: int) -> int:
        if self._number:
            raise KernelError("attach", self._number, os.strerror(self._number))
        return 99

    def why_not(self, _program: int, _ifindex: int) -> str:
        return ""


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """It says how it answers to each mode."""
    answers = SimpleNamespace()

    def answer(native: int, generic: int) -> None:
        monkeypatch.setattr(attachment, "HOOKS", {"native": Mode(native), "generic": Mode(generic)})

    answers.answer = answer
    return answers


def prepared() -> Prepared:
    return Prepared({"xdrop_root": os.open(os.devnull, os.O_RDONLY)}, {})


@pytest.mark.parametrize("number", [BUSY, EXISTS])
def test_a_driver_that_says_so_for_reasons_of_its_own_gets_generic_mode(kernel: SimpleNamespace, number: int) -> None:
    """Were there another program, the kernel would refuse that as well."""
    kernel.answer(native=number, generic=TAKES)
    kept, reason = attach(prepared(), 2, "auto", 0)
    assert (kept.mode, reason) == ("generic", os.strerror(number))


def test_where_native_mode_is_asked_for_that_is_what_is_refused(kernel: SimpleNamespace) -> None:
    kernel.answer(native=BUSY, generic=TAKES)
    with pytest.raises(NotAttachable, match="^the kernel refuses native mode: Device or resource busy"):
        attach(prepared(), 2, "native", 0)


@pytest.mark.parametrize(("native", "generic"), [(BUSY, EXISTS), (EXISTS, BUSY), (BUSY, BUSY)])
def test_a_program_that_has_come_meanwhile_is_left_alone(kernel: SimpleNamespace, native: int, generic: int) -> None:
    kernel.answer(native, generic)
    with pytest.raises(NotAttachable, match="another XDP program is being attached"):
        attach(prepared(), 2, "auto", 0)


def test_below_a_device_that_has_a_program_no_mode_is_taken(kernel: SimpleNamespace) -> None:
    kernel.answer(EXISTS, EXISTS)
    for mode in ("auto", "generic"):
        with pytest.raises(NotAttachable, match="while a device above it"):
            attach(prepared(), 2, mode, 0)


def test_a_program_that_is_known_is_named_at_once(kernel: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachment.libbpf, "program_name", lambda _: "balancer")
    kernel.answer(BUSY, TAKES)
    with pytest.raises(NotAttachable, match=r"is attached, id 42 \(balancer\); it is left alone"):
        attach(prepared(), 2, "auto", 42)
