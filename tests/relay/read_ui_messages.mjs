// Reads UI message streams with the real `ai` package; prints what it made of them as JSON.
//
//   node read_ui_messages.mjs parts          the bytes come on stdin
//   node read_ui_messages.mjs chat URL [-]   a chat that asks there; with "-" it stops at the first text

import { Readable } from "node:stream";

import {
  AbstractChat,
  DefaultChatTransport,
  parseJsonEventStream,
  readUIMessageStream,
  uiMessageChunkSchema,
} from "ai";

async function readParts() {
  const parts = [];
  const parsed = parseJsonEventStream({
    stream: Readable.toWeb(process.stdin),
    schema: uiMessageChunkSchema,
  });
  const valid = parsed.pipeThrough(
    new TransformStream({
      transform(result, controller) {
        if (!result.success) throw result.error;
        parts.push(result.value);
        controller.enqueue(result.value);
      },
    }),
  );
  const errors = [];
  let message = null;
  const messages = readUIMessageStream({
    stream: valid,
    onError: (error) => errors.push(error.message),
  });
  for await (const each of messages) message = each;
  return { parts, message, errors };
}

// What useChat has in React's state.
class State {
  messages = [];
  status = "ready";
  error = undefined;
  pushMessage = (message) => this.messages.push(message);
  popMessage = () => this.messages.pop();
  replaceMessage = (index, message) => (this.messages[index] = message);
  snapshot = (value) => structuredClone(value);
}

async function chat(api, stopAtFirstText) {
  const state = new State();
  const finishes = [];
  const chat = new (class extends AbstractChat {})({
    state,
    transport: new DefaultChatTransport({ api }),
    onFinish: ({ isAbort, isError, isDisconnect, finishReason }) =>
      finishes.push({ isAbort, isError, isDisconnect, finishReason }),
  });
  if (stopAtFirstText) {
    const replace = state.replaceMessage;
    state.replaceMessage = (index, message) => {
      replace(index, message);
      if (message.parts.some((part) => part.text)) chat.stop();
    };
  }
  await chat.sendMessage({ text: "Hi" });
  const [finish] = finishes;
  return {
    message: chat.messages[1] ?? null,
    status: chat.status,
    error: chat.error?.message ?? null,
    finish,
  };
}

const [mode, url, stop] = process.argv.slice(2);
const result = mode === "chat" ? await chat(url, stop === "-") : await readParts();
console.log(JSON.stringify(result));
