"""XDP: in the driver, before anything is allocated for a packet; or generic, in the network stack, for every driver."""

from dataclasses import dataclass

from xdropd.kernel import libbpf


@dataclass(frozen=True, slots=True)
class _Xdp:
    """One of its modes, by its flag (uapi/linux/if_link.h)."""

    flag: int
    root_program: str = "xdrop_root"

    def attach(self, program: int, ifindex: int) -> int:
        return libbpf.attach_xdp(program, ifindex, self.flag)

    def why_not(self, program: int, ifindex: int) -> str:
        return libbpf.why_not_xdp(program, ifindex, self.flag)

    def target(self, link: int) -> tuple[int, int]:
        return libbpf.link_target(link)


NATIVE = _Xdp(libbpf.XDP_FLAGS_DRV_MODE)
GENERIC = _Xdp(libbpf.XDP_FLAGS_SKB_MODE)
