from __future__ import annotations

from functools import partial
from queue import SimpleQueue

from by_hand import BODY, decode_all
from ways import PATH, Way

from rxmistral import Mistral, UserMessage
from rxmistral.completions.accumulator import CompletionAccumulator
from rxmistral.completions.decoding import CompletionDecoder
from rxmistral.completions.fast_path import completions_of_blocks
from rxmistral.wire import blocks
from rxmistral.wire.reader import Request
from rxmistral.wire.session import open_session


def open_client(url):
    return (open_session(), url + PATH)


def _blocks(client):
    return blocks(lambda: Request("POST", client[1], json=BODY), session=client[0])


def sub(make, client, count, consume):
    ended = SimpleQueue()
    for _ in range(count):
        make(client, consume, ended)
    for _ in range(count):
        ended.get()


def mk_blocks(client, consume, ended):
    def on_next(block):
        i = block.find(b'"content":"')
        j = block.find(b'"', i + 11)
        if j > i + 11:
            consume(block[i + 11 : j].decode())

    _blocks(client).subscribe(on_next, ended.put, lambda: ended.put(None))


def mk_blocks_dec(client, consume, ended):
    def on_next(block):
        for e in block.split(b"\n\n"):
            if e[:6] == b"data: " and e[6:] != b"[DONE]":
                c = decode_all(e[6:]).choices[0].delta.content
                if c:
                    consume(c)

    _blocks(client).subscribe(on_next, ended.put, lambda: ended.put(None))


def mk_comp(client, consume, ended):
    def on_next(ev):
        c = ev.data.choices[0].delta.content
        if c:
            consume(c)

    _blocks(client).pipe(
        completions_of_blocks(
            lambda: CompletionDecoder(CompletionAccumulator(bounded=True)),
            max_bytes=1 << 24,
            accept_clean_end=False,
        )
    ).subscribe(on_next, ended.put, lambda: ended.put(None))


def mk_client(client, consume, ended):
    def on_next(ev):
        c = ev.data.choices[0].delta.content
        if c:
            consume(c)

    client[2].chat.stream(model="m", messages=[UserMessage(content="x")]).subscribe(
        on_next, ended.put, lambda: ended.put(None)
    )


def read_one(make, client, consume):
    sub(make, client, 1, consume)


WAYS = {
    n: Way(
        (open_client if n != "client" else (lambda url: (None, None, Mistral(server_url=url)))),
        partial(read_one, m),
        partial(sub, m),
    )
    for n, m in dict(blocks=mk_blocks, dec=mk_blocks_dec, comp=mk_comp, client=mk_client).items()
}
