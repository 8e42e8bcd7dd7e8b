#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""
transfer.py: both ends of a check of a network. A stream goes both ways at the same time, each byte
of it is known to the other end; then datagrams of all sizes, one at a time, are sent back. Ends
with 0 if all of it was right.
usage: transfer.py listen|connect ADDRESS PORT [--mib N] [--datagrams N] [--ready FILE]
"""

import argparse
import hashlib
import socket
import sys
import threading

BLOCK = 1 << 16
LIMIT = 40  # seconds without progress


def block(name, number):
    return hashlib.shake_128(f"{name} {number}".encode()).digest(BLOCK)


def send(stream, name, count):
    for number in range(count):
        stream.sendall(block(name, number))


def receive(stream, name, count):
    for number in range(count):
        data = bytearray()
        while len(data) < BLOCK:
            more = stream.recv(BLOCK - len(data))
            if not more:
                sys.exit(f"the stream ended in block {number} of {count}")
            data += more
        if data != block(name, number):
            sys.exit(f"block {number} is not what was sent")


def both_ways(stream, mine, theirs, count):
    stream.settimeout(LIMIT)
    sender = threading.Thread(target=send, args=(stream, mine, count), daemon=True)
    sender.start()
    receive(stream, theirs, count)
    sender.join()
    # The other end has all of it too before anything is closed.
    stream.sendall(b"!")
    if stream.recv(1) != b"!":
        sys.exit("no end")


def datagram(number):
    """Of every length that matters: small, around the MTU, in many fragments."""
    length = (number * 7919) % 9000 + 4 if number % 2 else 1400 + number % 200
    return number.to_bytes(4, "big") + block("datagram", number)[:length]


def ask(link, address, count):
    """Lost ones are sent again; more than one in ten is not what a quiet link does."""
    lost = 0
    link.settimeout(1)
    for number in range(count):
        wanted = datagram(number)
        while True:
            link.sendto(wanted, address)
            try:
                answer = link.recv(BLOCK)
                while answer[:4] != wanted[:4]:
                    answer = link.recv(BLOCK)
            except socket.timeout:
                lost += 1
                if lost > 3 + count // 10:
                    sys.exit(f"{lost} of {number + 1} datagrams were lost")
                continue
            if answer != wanted:
                sys.exit(f"datagram {number} came back changed")
            break
    link.sendto(b"end!", address)


def answer_all(link):
    link.settimeout(LIMIT)
    while True:
        data, address = link.recvfrom(BLOCK)
        if data == b"end!":
            return
        number = int.from_bytes(data[:4], "big")
        if number > 1 << 20 or data != datagram(number):
            sys.exit(f"datagram {number} is not what was sent")
        link.sendto(data, address)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=("listen", "connect"))
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--mib", type=int, default=8)
    parser.add_argument("--datagrams", type=int, default=0)
    parser.add_argument("--ready", help="a file that is made as soon as it listens")
    arguments = parser.parse_args()
    place, count = (arguments.address, arguments.port), arguments.mib * (1 << 20) // BLOCK
    if arguments.role == "connect":
        with socket.create_connection(place, LIMIT) as stream:
            both_ways(stream, "connect", "listen", count)
        if arguments.datagrams:
            ask(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), place, arguments.datagrams)
        return
    with socket.create_server(place) as listener, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.bind(place)
        if arguments.ready:
            open(arguments.ready, "w", encoding="ascii").close()
        listener.settimeout(LIMIT)
        with listener.accept()[0] as stream:
            both_ways(stream, "listen", "connect", count)
        if arguments.datagrams:
            answer_all(link)


if __name__ == "__main__":
    try:
        main()
    except OSError as problem:
        sys.exit(f"{type(problem).__name__}: {problem}")
