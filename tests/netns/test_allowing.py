"""Lists that allow: what they hold passes, whatever lists it, and a list that breaks cuts nobody off."""

from pathlib import Path

from foreground import Daemon

from netns import Net
from waiting import wait_until

_CHANGE_WITHIN_S = 2.0


def test_a_list_that_allows(tmp_path: Path) -> None:
    with Net() as net:
        text = f"block: [{net.peer_address}]\ninclude:\n  - {{path: partner.txt, action: %s}}\n"
        list_file = tmp_path / "etc" / "partner.txt"
        list_file.parent.mkdir()
        list_file.write_text(f"# a partner\n{net.peer_address}\n")
        with Daemon(net, tmp_path, text % "allow") as daemon:
            assert net.answers()
            said = daemon.lookup(net.peer_address)
            assert (said["blocked"], said["kept_by"]["source"], said["kept_by"]["line"]) == (False, str(list_file), 2)
            assert daemon.status()["entries"]["allowed"] == 1
            for broken in ("", "<html>\n<p>502 Bad Gateway</p>\n"):
                list_file.write_text(broken)
                wait_until(lambda: daemon.status()["degraded"], within_s=_CHANGE_WITHIN_S)
                assert net.answers()
            assert f"{list_file}: " in daemon.log
            assert "its last good version with 1 entries stays in force" in daemon.log
            # The same list, and what it holds is dropped as well.
            list_file.write_text(f"{net.peer_address}\n")
            daemon.blocklist.write_text(text % "block")
            wait_until(lambda: not net.answers(), within_s=_CHANGE_WITHIN_S)
            daemon.blocklist.write_text(text % "allow")
            wait_until(net.answers, within_s=_CHANGE_WITHIN_S)
            assert not daemon.status()["degraded"]
