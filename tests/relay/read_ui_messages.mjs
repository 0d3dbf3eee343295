// Reads UI message streams with the npm package `ai`; prints the result as JSON.
//
//   node read_ui_messages.mjs parts          reads the bytes from stdin
//   node read_ui_messages.mjs chat URL       sends a message to the URL, as a chat does
//   node read_ui_messages.mjs stop URL       sends a message, and stops at the first text
//   node read_ui_messages.mjs resume URL     resumes at the URL, as a reloaded page does

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

// The state that useChat stores in React.
class State {
  messages = [];
  status = "ready";
  error = undefined;
  pushMessage = (message) => this.messages.push(message);
  popMessage = () => this.messages.pop();
  replaceMessage = (index, message) => (this.messages[index] = message);
  snapshot = (value) => structuredClone(value);
}

async function chat(api, mode) {
  const state = new State();
  const finishes = [];
  const chat = new (class extends AbstractChat {})({
    state,
    transport: new DefaultChatTransport({
      api,
      prepareReconnectToStreamRequest: () => ({ api }),
    }),
    onFinish: ({ isAbort, isError, isDisconnect, finishReason }) =>
      finishes.push({ isAbort, isError, isDisconnect, finishReason }),
  });
  if (mode === "stop") {
    const replace = state.replaceMessage;
    state.replaceMessage = (index, message) => {
      replace(index, message);
      if (message.parts.some((part) => part.text)) chat.stop();
    };
  }
  if (mode === "resume") {
    chat.messages = [{ id: "1", role: "user", parts: [{ type: "text", text: "Hi" }] }];
    await chat.resumeStream();
  } else {
    await chat.sendMessage({ text: "Hi" });
  }
  const [finish] = finishes;
  return {
    message: chat.messages[1] ?? null,
    status: chat.status,
    error: chat.error?.message ?? null,
    finish,
  };
}

const [mode, url] = process.argv.slice(2);
const result = await (mode === "parts" ? readParts() : chat(url, mode));
console.log(JSON.stringify(result));
