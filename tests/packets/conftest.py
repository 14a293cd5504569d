"""The verdict program in the kernel, fed with frames by BPF_PROG_TEST_RUN: no interface, no packets on any wire."""

from collections.abc import Iterator

import pytest

from xdropd.kernel import libbpf, shapes
from xdropd.kernel.compiler import Blueprint, compile_blueprint, source_folder
from xdropd.kernel.generation import INTERFACE_MAPS, SHARED_MAPS, Generation, Sizes, create
from xdropd.rules.plan import Plan, difference
from xdropd.rules.ruleset import VERSIONS, Layout, Ruleset

XDP_DROP, XDP_PASS = 1, 2


class Verdicts:
    """One generation and one make-believe interface."""

    def __init__(self, blueprint: Blueprint, sizes: Sizes | None = None) -> None:
        self.blueprint = blueprint
        self.shared = {name: create(blueprint, name) for name in SHARED_MAPS}
        self.interface = {name: create(blueprint, name) for name in INTERFACE_MAPS}
        self.generation = Generation.build(blueprint, 1, sizes or Sizes(), self.shared)
        self.choose()

    def choose(self, *, log_interval_ns: int = 0, monitor: bool = False, pass_malformed: bool = False) -> None:
        value = shapes.settings(log_interval_ns, monitor, pass_malformed)
        libbpf.update(self.shared["settings"], shapes.number(0), value)

    def put(self, ruleset: Ruleset, before: Ruleset | None = None) -> Plan:
        """Put a list in force in place of another."""
        plan = difference(before.whole_layout() if before else Layout(), ruleset.whole_layout())
        self.generation.apply(plan, since_s=1)
        return plan

    @property
    def program(self) -> int:
        return self.generation.verdict_program("test", self.shared, self.interface)

    def drops(self, frame: bytes) -> bool:
        value = libbpf.test_run(self.program, frame).value
        assert value in (XDP_DROP, XDP_PASS), value
        return value == XDP_DROP

    def totals(self) -> dict[str, shapes.Volume]:
        size = shapes.VOLUME_BYTES * libbpf.possible_cpus()
        return {
            name: shapes.sum_of_volumes(
                libbpf.lookup(self.interface["totals"], shapes.number(verdict), size) or b""
            )
            for verdict, name in enumerate(("passed", "dropped", "malformed"))
        }

    def close(self) -> None:
        self.generation.close()


@pytest.fixture(scope="session")
def blueprint() -> Blueprint:
    return compile_blueprint(source_folder(), ("-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"))


@pytest.fixture
def verdicts(blueprint: Blueprint) -> Iterator[Verdicts]:
    made = Verdicts(blueprint)
    yield made
    made.close()


__all__ = ["VERSIONS", "Verdicts"]
