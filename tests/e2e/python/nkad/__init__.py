"""A read-only client of Nautilus KAD, written from docs/protocol.md alone.

It exists to show that the document is enough: what it says twice, in Rust and here, must agree on the wire.
It does not serve: it answers no requests, keeps no routing table and stores nothing for others.

wire.py       sections 3 to 7: frames and messages, bytes to values and back
records.py    sections 1 and 8: hashes, keys, networks, records and their verification
files.py      section 11: files as trees of records
transport.py  section 2: QUIC connections with a certificate on both sides
lookup.py     section 9: looking up, getting and putting
"""
