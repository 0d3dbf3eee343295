"""Coming from mistralai, openai or RxPY: what to write here.

Runs without a key: python examples/coming_from_other_sdks.py

From mistralai
    Change the import lines. `chat.stream(...)` and `chat.stream_async(...)`, the models and
    `RetryConfig` are spelled as in the official SDK.

    chat.complete(...)                  chat.stream(...).to_response().run()
    await chat.complete_async(...)      await chat.stream(...).to_response()
    chat.parse(..., response_format=T)  chat.stream(..., response_format=T).text().parsed(T).run()
    chat.parse_stream(...)              chat.stream(..., response_format=T).text().partials(T)
    async_client, client                session=requests.Session()

From openai
    client.chat.completions.create(stream=True, ...)   client.chat.stream(...)
    chunk.choices[0].delta.content                     event.data.choices[0].delta.content
    base_url, default_headers, max_retries             server_url, http_headers, retry=Retry(...)
    timeout                                            timeouts=Timeouts(first=..., gap=...)
    stream_options={"include_usage": True}             .outcome.usage; it is always sent
    seed, max_completion_tokens                        random_seed, max_tokens

    An unknown argument raises a TypeError that names the word of rxmistral for it.

From RxPY
    A Stream is an Observable: all operators of reactivex work in its pipe, and the result is a
    Stream. `Stream.of(observable)` converts any other Observable.

    answer_each(ask)            as switch_map(ask): a new prompt closes the old connection at once
    answer_each(ask, "queue")   as concat_map(ask): one connection at a time
    answer_each(ask, "ignore")  as map(ask), exclusive()
    shared()                    as replay() and ref_count(), but a slow viewer delays nobody, and
                                leaving does not stop the run
    map_async(f, concurrency=n) as map(f) and merge(max_concurrent=n), but the results stay in order

    `switch_map` passes the new answer to a slow subscriber on another thread, while it still
    handles the old one; `answer_each` lets the new answer wait, and `on_next` never waits for a
    subscriber. `answer_each(ask, on_error=...)` goes on after an answer that fails.
"""

import reactivex

from rxmistral import Mistral, Stream, answer_each
from rxmistral.models import UserMessage  # instead of mistralai.models

client = Mistral.demo()
counting = [UserMessage(content="Count to five.")]

# mistralai: as it was.
with client.chat.stream(model="mistral-large-latest", messages=counting) as stream:
    for event in stream:
        content = event.data.choices[0].delta.content
        if content:
            print(content, end="", flush=True)
print()

# mistralai: chat.complete
answer = client.chat.stream(model="mistral-large-latest", messages=counting)
response = answer.to_response().run()
print(response.usage)

# openai: words that have another name here
try:
    client.chat.stream(model="any", messages=counting, seed=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
except TypeError as error:
    print(error)


# RxPY: operators of both libraries, and an error that does not end the conversation
def ask(prompt: str) -> Stream[str]:
    messages = [UserMessage(content=prompt)]
    tokens = client.chat.stream(model="mistral-small-latest", messages=messages).text()
    return tokens.catch(reactivex.of("... sorry.")).reduce(lambda whole, token: whole + token)


prompts = Stream.of(reactivex.of("Fail.", "Say hello."))
for whole in prompts.pipe(answer_each(ask, "queue")):
    print(whole)
