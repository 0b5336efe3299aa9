"""A laboratory for nodes behind NATs, made of network namespaces on one machine.

    nl-LAB-pub    the internet: one router that knows every public address, and the public nodes, each on its own
                  address 11.SITE.0.HOST, on the loopback device
        |  w1, w2, ...: one link for each home, with its own delay and loss
    nl-LAB-HOME-r1   the home's router: a public address 22.HOME.0.2, a NAT or a firewall, and the network behind
        |  (-r2      a second router, behind the first)
    nl-LAB-HOME-c1, -c2, ...   the clients, all in the home's one network

With IPv6 (`Lab(name, v6=True)`) the public nodes have 2a00:SITE:0:HOST::1 as well, and a home that asks for it has
2a02:HOME:0:1::/64 behind its router, without a NAT, as homes have: `firewall` lets only answers in (RFC 6092), `open`
everybody. A home of the kind `none` has no IPv4.

Private networks are 192.168.1.0/24 in *every* home, as they are in life: who takes the private address of a peer for
an address of the own network finds somebody else, or itself. The public addresses are of blocks that nodes and routers
take for public, which those for documentation are not everywhere; no packet leaves the namespaces.

namespace.py   one namespace: made, used, removed; what an earlier run left is removed too
cable.py       a link with delay and loss, for kernels without netem
router.py      the kinds of NAT as rules of nftables; port mapping by miniupnpd; mappings that expire or are lost
lab.py         the whole: the internet, homes, moves from one home to another
nodes.py       kad-node in the lab: the public network, daemons, listeners and those who connect
pairs.py       one connects to the other and has a megabyte echoed: what came of it
tests.py       what the executables in tests/root have in common: needs, cleaning up, how outcomes are told
punch.py       punching without kad-node, to see that the lab is what it says
datagrams.py   plain datagrams, for the same
natlab         the command for people

It needs root, iproute2, nftables and /dev/net/tun; for `upnp` miniupnpd. Several labs can stand side by side if they
have different names.
"""
