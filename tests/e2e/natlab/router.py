"""Routers: what each kind of NAT or firewall does, as rules of nftables.

    kind    mapping                        filtering             packets from outside for the router itself
    full    endpoint independent           none                  dropped
    addr    endpoint independent           by address            dropped
    cone    endpoint independent (*)       by address and port   dropped
    leaky   endpoint independent (*)       by address and port   accepted, which poisons its table
    sym     random port per destination    by address and port   dropped
    fw      none: public addresses         stateful firewall     dropped
    open    none: public addresses         none                  accepted
    block   as cone, but all UDP is dropped
    upnp    as cone, and a miniupnpd that maps ports by PCP, NAT-PMP and UPnP; behind another router it tells that one's
            public address, which is right and of no use, as that one lets nobody in

    none    no IPv4 behind it, only the IPv6 that a home may have with any kind:
            firewall   lets only answers in, to the address and port that were sent to (RFC 6092)
            open       lets everybody in

(*) Plain masquerade: it keeps the source port as long as nothing in its table has that port to that destination. What
comes from outside too early and is *accepted* (leaky) does have it.

Words for mapping and filtering are those of RFC 4787.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from .namespace import LabError, Namespace

KINDS = ("full", "addr", "cone", "leaky", "sym", "fw", "open", "block", "upnp", "none")

# What a router does with IPv6.
KINDS_V6 = ("firewall", "open")

# There is no IPv4 behind it.
NO_V4 = "none"

# They have no NAT: the network behind them has public addresses.
ROUTED = ("fw", "open")

# How long endpoint independent mappings last without traffic: 5 minutes, as RFC 4787 (section 4.3) recommends.
MAPPING_SECONDS = 300

# From linux/netfilter: a message of ctnetlink that deletes, without a filter, is one that deletes everything.
NETLINK_NETFILTER, NFNL_CTNETLINK_DELETE, NLM_F_REQUEST, NLM_F_ACK = 12, 1 << 8 | 2, 1, 4

# The chains that miniupnpd writes to. It rewrites addresses before the router's own chains see a packet.
PORTS = """
table inet ports {
    chain forward { type filter hook forward priority -5; jump miniupnpd; }
    chain prerouting { type nat hook prerouting priority -105; jump miniupnpd_in; }
    chain postrouting { type nat hook postrouting priority 95; jump miniupnpd_out; }
    chain miniupnpd { }
    chain miniupnpd_in { }
    chain miniupnpd_out { }
}
"""


class Router:
    """A router between an interface `wan` and an interface `lan` of a namespace. `stop` it."""

    def __init__(self, namespace: Namespace, kind: str, lan: str, public: str) -> None:
        if kind not in KINDS:
            raise LabError(f"{kind} is no kind of router; the kinds are {', '.join(KINDS)}")
        self.namespace, self.kind, self.lan = namespace, kind, lan
        self.daemon: subprocess.Popen | None = None
        self.directory: tempfile.TemporaryDirectory | None = None
        namespace.settings({"ipv4/ip_forward": 1, "ipv4/conf/all/send_redirects": 0, "ipv4/conf/lan/send_redirects": 0})
        namespace.nft(_rules(kind, MAPPING_SECONDS))
        if kind == "upnp":
            namespace.nft(PORTS)
            self._map_ports(public)

    def begin_v6(self, kind: str) -> None:
        """From now on it forwards IPv6, as this kind does."""
        if kind not in KINDS_V6:
            raise LabError(f"{kind} is no kind of IPv6; the kinds are {', '.join(KINDS_V6)}")
        self.namespace.settings({"ipv6/conf/all/forwarding": 1})
        self._rules_v6("" if kind == "open" else "ct state established,related accept; iifname wan drop")

    def drop_v6(self) -> None:
        """From now on nothing of IPv6 comes through, and nobody is told."""
        self._rules_v6("drop")

    def _rules_v6(self, rules: str) -> None:
        # Without what ICMPv6 says of neighbours nothing would find its way (RFC 4890, section 4.4).
        self.namespace.nft(
            f"""
table ip6 lab {{ }}
delete table ip6 lab
table ip6 lab {{
    chain through {{ type filter hook forward priority filter; {rules}; }}
    chain itself {{ type filter hook input priority filter; ip6 nexthdr icmpv6 accept; {rules}; }}
}}
""".replace(" ; ", " ")
        )

    def expire_after(self, seconds: int) -> None:
        """From now on the router forgets a mapping that was not used for so long."""
        self.namespace.settings(
            {"netfilter/nf_conntrack_udp_timeout": seconds, "netfilter/nf_conntrack_udp_timeout_stream": seconds}
        )
        self.namespace.nft("delete table ip lab\n" + _rules(self.kind, seconds))

    def forget(self) -> None:
        """The router loses all mappings, as at a restart."""
        rules = ["flush map ip lab eim", "flush set ip lab met"]
        self.namespace.nft("\n".join(rules))
        self.namespace.within(_flush_connections)

    def stop(self) -> None:
        if self.daemon:
            self.daemon.terminate()
            self.daemon.wait()
        if self.directory:
            self.directory.cleanup()

    def _map_ports(self, public: str) -> None:
        """Starts miniupnpd, and waits until it listens for NAT-PMP and PCP. Without being told a public address it maps
        nothing behind another router."""
        self.directory = tempfile.TemporaryDirectory(prefix="natlab-")
        config = Path(self.directory.name) / "miniupnpd.conf"
        config.write_text(
            f"ext_ifname=wan\next_ip={public}\nlistening_ip=lan\nenable_natpmp=yes\nenable_upnp=yes\nsecure_mode=yes\n"
            f"upnp_forward_chain=miniupnpd\nupnp_nat_chain=miniupnpd_in\nupnp_nat_postrouting_chain=miniupnpd_out\n"
            f"upnp_table_name=ports\nupnp_nat_table_name=ports\nlease_file={self.directory.name}/leases\n"
            f"uuid=00000000-0000-4000-8000-{self.namespace.name.encode().hex()[:12]:0>12}\n"
            f"allow 1024-65535 {self.lan} 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n"
        )
        command = ["miniupnpd", "-d", "-f", str(config), "-P", str(Path(self.directory.name) / "pid")]
        with (Path(self.directory.name) / "log").open("wb") as log:
            self.daemon = self.namespace.start(*command, stdout=log, stderr=log)
        until = time.monotonic() + 5
        # It opens these ports last, 5351 being that of NAT-PMP and PCP (RFC 6887, section 19).
        while ":14E7 " not in self.namespace.output("cat", "/proc/net/udp"):
            if self.daemon.poll() is not None or time.monotonic() > until:
                said = (Path(self.directory.name) / "log").read_text()
                raise LabError(f"miniupnpd does not listen for NAT-PMP; it says:\n{said}")
            time.sleep(0.02)


def _rules(kind: str, seconds: int) -> str:
    """A router is a mapping outwards (source), one inwards (destination), and two filters."""
    source = destination = learn = ""
    forward = itself = "iifname wan drop"
    match kind:
        case "cone" | "leaky" | "block" | "upnp" | "none":
            source = "oifname wan masquerade"
        case "sym":
            source = "oifname wan masquerade random,fully-random"
        case "full" | "addr":
            source = "oifname wan masquerade"
            destination = "iifname wan meta l4proto udp dnat to udp dport map @eim"
            learn = "oifname wan meta l4proto udp update @eim { udp sport : ip saddr . udp sport }"
        case "fw" | "open":
            pass
    match kind:
        case "leaky":
            itself = ""
        case "block":
            learn = "meta l4proto udp drop"
        case "full":
            forward = ""
        case "open":
            forward = itself = ""
        case "addr":
            learn += "; oifname wan meta l4proto udp update @met { ip saddr . udp sport . ip daddr }"
            forward = "iifname wan ip daddr . udp dport . ip saddr @met accept; iifname wan drop"
        case "upnp":
            forward = "iifname wan ct status dnat accept; iifname wan drop"
    known = "ct state established,related accept"
    timeout = f"flags dynamic,timeout; timeout {seconds}s; size 65535;"
    return f"""
table ip lab {{
    map eim {{ type inet_service : ipv4_addr . inet_service; {timeout} }}
    set met {{ type ipv4_addr . inet_service . ipv4_addr; {timeout} }}
    chain inwards {{ type nat hook prerouting priority dstnat; {destination}; }}
    chain outwards {{ type nat hook postrouting priority srcnat; {source}; }}
    chain through {{ type filter hook forward priority filter; {learn}; {known}; {forward}; }}
    chain itself {{ type filter hook input priority filter; {known}; {itself}; }}
}}
""".replace(" ;", "")


def _flush_connections() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
        # Header of netlink: length, type, flags, sequence, port; of nfnetlink: family, version, resource.
        body = struct.pack("=BBH", socket.AF_INET, 0, 0)
        header = struct.pack("=IHHII", 16 + len(body), NFNL_CTNETLINK_DELETE, NLM_F_REQUEST | NLM_F_ACK, 1, 0)
        netlink.send(header + body)
        error = struct.unpack_from("=i", netlink.recv(4096), 16)[0]
        if error:
            raise OSError(-error, "the table of connections cannot be emptied")
