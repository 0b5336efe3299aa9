"""The whole laboratory: the internet in the middle, and homes around it."""

from __future__ import annotations

import fcntl
import select
import subprocess
import sys
from pathlib import Path

from .namespace import LabError, Namespace, leftovers, remove
from .router import NO_V4, ROUTED, Router

# Names of labs and homes are parts of names of namespaces, and of interfaces that hold 15 characters.
MAX_NAME = 12

# Homes are numbered in the second byte of their addresses.
MAX_HOMES = 250

# Routers in a row: that of the home, and one of its provider.
MAX_ROUTERS = 2

CABLE_SECONDS = 10


class Lab:
    """The internet and homes, all named after the lab. A context: what was made is removed at its end."""

    def __init__(self, name: str, v6: bool = False) -> None:
        _check_name(name)
        self.name, self.v6, self.homes, self._cables = name, v6, {}, []
        self._lock = open(f"/run/natlab-{name}.lock", "wb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(f"another lab of the name {name} stands; wait for its end, or take another name") from None
        self.remove_leftovers(name)
        self.internet = Namespace(f"nl-{name}-pub")
        # Nobody is to be told of a better way: there is none.
        self.internet.settings({"ipv4/ip_forward": 1, "ipv4/conf/all/send_redirects": 0})
        if v6:
            self.internet.with_v6()
            self.internet.settings({"ipv6/conf/all/forwarding": 1})

    @staticmethod
    def remove_leftovers(name: str) -> None:
        """Ends and removes what a lab of this name left behind."""
        for left in leftovers(f"nl-{name}-"):
            remove(left)

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        for home in self.homes.values():
            for router in home.routers:
                router.stop()
        self.remove_leftovers(self.name)
        for cable in self._cables:
            cable.terminate()
            cable.wait()
            cable.stdout.close()
        self.homes, self._cables = {}, []
        self._lock.close()

    def public(self, count: int, per_site: int = 5, first_site: int = 1) -> list[str]:
        """Gives the internet so many addresses, `per_site` in each /24, no two /24 in one /16. Returns them."""
        addresses = [f"11.{first_site + i // per_site}.0.{1 + i % per_site}" for i in range(count)]
        self.internet.ip(*(f"addr add {address}/32 dev lo" for address in addresses))
        return addresses

    def public_v6(self, addresses: list[str]) -> list[str]:
        """Gives the internet an IPv6 address beside each of these: each in a /64 of its own, those of a site in a /48."""
        numbers = [[int(part) for part in address.split(".")] for address in addresses]
        beside = [f"2a00:{site:x}:0:{host:x}::1" for _, site, _, host in numbers]
        self.internet.ip(*(f"addr add {address}/128 dev lo nodad" for address in beside))
        return beside

    def home(
        self, name: str, kinds: str, delay: float = 0, loss: float = 0, clients: int = 1, v6: str | None = None
    ) -> Home:
        """A home behind these routers: a kind, or two with a plus between, that of the home first. `delay` is of its
        link to the internet, one way, in milliseconds; `loss` in percent. `v6` says what its router does with IPv6:
        nothing, `firewall` or `open`."""
        _check_name(name)
        if name in self.homes or len(self.homes) >= MAX_HOMES:
            raise LabError(f"there is a home {name} already, or there are {MAX_HOMES}")
        home = Home(self, len(self.homes) + 1, name, kinds.split("+"), delay, loss)
        self.homes[name] = home
        if v6:
            home.begin_v6(v6)
        for _ in range(clients):
            home.add_client()
        return home

    def link(self, a: Namespace, dev_a: str, b: Namespace, dev_b: str, delay: float = 0, loss: float = 0) -> None:
        """Joins two namespaces: with a pair of veth, or with a cable that delays and loses."""
        if delay == 0 and loss == 0:
            a.ip(f"link add {dev_a} type veth peer name {dev_b} netns {b.name}")
        else:
            names = [a.name, dev_a, b.name, dev_b, str(delay), str(loss), f"{self.name} {a.name} {b.name}"]
            program = [sys.executable, str(Path(__file__).with_name("cable.py")), *names]
            cable = subprocess.Popen(program, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
            self._cables.append(cable)
            if not select.select([cable.stdout], [], [], CABLE_SECONDS)[0] or cable.stdout.readline() != b"ready\n":
                raise LabError(f"the cable from {a.name} to {b.name} did not come up; is there /dev/net/tun?")
        a.ip(f"link set {dev_a} up")
        b.ip(f"link set {dev_b} up")


class Home:
    """One or two routers in a row, and the clients behind them."""

    def __init__(self, lab: Lab, number: int, name: str, kinds: list[str], delay: float, loss: float) -> None:
        if not 1 <= len(kinds) <= MAX_ROUTERS or any(kind in ROUTED for kind in kinds[:-1]):
            raise LabError(f"{'+'.join(kinds)}: at most two routers in a row, and only the outer one without a NAT")
        self.lab, self.number, self.name, self.kinds = lab, number, name, kinds
        self.routers: list[Router] = []
        self.clients: list[Client] = []
        self._hosts, self._addresses = 1, 2
        # What the router does with IPv6, and the first half of all addresses behind it.
        self.v6: str | None = None
        self.network_v6 = ""
        outer, network = lab.internet, f"22.{number}.0"
        # From the internet inwards.
        for place, kind in enumerate(reversed(kinds)):
            namespace = Namespace(f"nl-{lab.name}-{name}-r{len(kinds) - place}")
            if outer is lab.internet:
                lab.link(outer, f"w{number}", namespace, "wan", delay, loss)
                outer.ip(f"addr add {network}.1/24 dev w{number}")
            else:
                lab.link(outer, "inner", namespace, "wan")
                outer.ip("link set inner master lan")
            namespace.ip(f"addr add {network}.2/24 dev wan", f"route add default via {network}.1")
            inner = _inside(kind, number, is_last=place + 1 == len(kinds))
            namespace.ip("link add lan type bridge", "link set lan up", f"addr add {inner}.1/24 dev lan")
            if kind in ROUTED:
                outer.ip(f"route add {inner}.0/24 via {network}.2")
            self.routers.insert(0, Router(namespace, kind, f"{inner}.0/24", self.public))
            outer, network = namespace, inner
        self.network = network

    def begin_v6(self, kind: str) -> None:
        """Gives the home a network of IPv6 addresses, each of which the internet knows the way to."""
        if not self.lab.v6 or len(self.routers) != 1:
            raise LabError("a home with IPv6 needs Lab(name, v6=True), and is behind one router")
        (router,), net = self.routers, f"2a02:{self.number:x}:0"
        self.network_v6, self.v6 = f"{net}:1:", kind
        router.namespace.with_v6()
        self.lab.internet.ip(f"addr add {net}::1/64 dev w{self.number} nodad", f"route add {net}:1::/64 via {net}::2")
        router.namespace.ip(
            f"addr add {net}::2/64 dev wan nodad", f"addr add {net}:1::1/64 dev lan nodad", f"route add ::/0 via {net}::1"
        )
        router.begin_v6(kind)

    def lose_v6(self) -> None:
        """The router announces no addresses any more: those of the clients are gone, and so is their way out."""
        for client in self.clients:
            client.namespace.ip("addr flush dev eth0 scope global to 2000::/3", "route flush ::/0")

    def regain_v6(self) -> None:
        """The addresses are back, and what the router has dropped comes through again."""
        self.routers[0].begin_v6(self.v6)
        for client in self.clients:
            client.namespace.ip(*self._v6_of(client))

    def _v6_of(self, client: Client) -> list[str]:
        return [f"addr replace {client.v6}/64 dev eth0 nodad", f"route replace ::/0 via {self.network_v6}:1"]

    @property
    def kind(self) -> str:
        return "+".join(self.kinds)

    @property
    def public(self) -> str:
        """The public address of the outer router. Behind one without a NAT, clients have their own."""
        return f"22.{self.number}.0.{self._addresses}"

    @property
    def client(self) -> Client:
        return self.clients[0]

    def add_client(self) -> Client:
        name = f"{self.name}-c{len(self.clients) + 1}"
        client = Client(Namespace(f"nl-{self.lab.name}-{name}"), name)
        self.clients.append(client)
        self._plug(client)
        return client

    def take(self, client: Client) -> None:
        """The client leaves the home in which it is, and comes into this one, where it has another address."""
        client.namespace.ip("link del eth0")
        self._plug(client)

    def renumber(self) -> None:
        """The outer router gets another public address, and loses its mappings."""
        outer, old = self.routers[-1], self.public
        self._addresses += 1
        gateway = f"22.{self.number}.0.1"
        outer.namespace.ip(
            f"addr del {old}/24 dev wan", f"addr add {self.public}/24 dev wan", f"route add default via {gateway}"
        )
        if outer.kind in ROUTED:
            self.lab.internet.ip(f"route replace {outer.lan} via {self.public}")
        outer.forget()

    def _plug(self, client: Client) -> None:
        self._hosts += 1
        port, inner = f"c{self._hosts}", self.routers[0].namespace
        self.lab.link(inner, port, client.namespace, "eth0")
        inner.ip(f"link set {port} master lan")
        if self.kind != NO_V4:
            client.address = f"{self.network}.{self._hosts}"
            client.namespace.ip(
                f"addr add {client.address}/24 brd + dev eth0", f"route add default via {self.network}.1"
            )
        if self.v6:
            client.v6 = f"{self.network_v6}:{self._hosts:x}"
            client.namespace.with_v6()
            client.namespace.ip(*self._v6_of(client))


class Client:
    """A machine in a home. Its addresses are those in the home's network, empty if it has none."""

    def __init__(self, namespace: Namespace, name: str) -> None:
        self.namespace, self.name, self.address, self.v6 = namespace, name, "", ""


def _inside(kind: str, number: int, is_last: bool) -> str:
    """The network behind a router: public, the provider's own (RFC 6598), or what every home has."""
    if kind in ROUTED:
        return f"22.{number}.1"
    return "192.168.1" if is_last else "100.64.0"


def _check_name(name: str) -> None:
    if not (name.isalnum() and name.islower() and len(name) <= MAX_NAME):
        raise LabError(f"{name!r} is no name: lower case letters and digits, {MAX_NAME} at most, not digits alone")
