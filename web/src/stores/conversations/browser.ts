import {
  type AboutConversation,
  type Conversation,
  type ConversationMessage,
  type ConversationThread,
  type ExportedConversation,
  type ListedConversation,
  type NewMessage,
  SlmError,
} from "slm-client";
import { uuid } from "../uuid";
import type { Keeper } from "./keeper";

const DATABASE = "slm-conversations";
const STORE = "conversations";
const PAGE = 50;
const EXCERPT = 60;

/** Keeps conversations in this browser only (IndexedDB): other devices do not see them, and nobody backs them up. */
export const browserKeeper: Keeper = {
  async list({ after, q }) {
    const all = (await request<ConversationThread[]>("readonly", (store) => store.getAll())).sort(byChange);
    const found = q ? all.flatMap((one) => matching(one, q)) : all.map(withoutMessages);
    const start = after ? found.findIndex((one) => one.id === after) + 1 : 0;
    const page = found.slice(start, start + PAGE);
    return { conversations: page, last_id: page.at(-1)?.id ?? null, has_more: start + PAGE < found.length };
  },
  create: (about) => add(about, [], null),
  read: find,
  change: (id, { leaf_id, ...about }) =>
    update(id, (thread) => {
      Object.assign(thread, about, leaf_id === undefined ? {} : { leaf_id });
      return withoutMessages(thread);
    }),
  delete: (id) => request("readwrite", (store) => store.delete(id)),
  append: (id, message) => update(id, (thread) => append(thread, message)),
  changeMessage: (id, messageId, changes) =>
    update(id, (thread) => {
      const message = messageOf(thread, messageId);
      if (changes.content !== undefined) message.is_edited = message.job_id !== null;
      return Object.assign(message, changes);
    }),
  async export(id) {
    return { version: 1, ...(await find(id)) };
  },
  import: ({ version: _, id: __, messages, leaf_id, ...about }: ExportedConversation) =>
    add(about, messages.map((message) => ({ ...emptyMessage(), ...message, job_id: null })), leaf_id),
  placeOf: () => undefined,
  keepAnswer: ({ id, parent_id }, jobId) =>
    update(id, (thread) => append(thread, { role: "assistant", job_id: jobId, parent_id })),
  settle: (id, messageId, ended) =>
    update(id, (thread) => {
      const message = messageOf(thread, messageId);
      if (!message.is_edited) Object.assign(message, ended);
    }),
};

function byChange(one: Conversation, other: Conversation): number {
  return other.updated_at.localeCompare(one.updated_at);
}

function withoutMessages({ messages: _, ...about }: ConversationThread): ListedConversation {
  return about;
}

function matching(thread: ConversationThread, q: string): ListedConversation[] {
  const wanted = q.toLowerCase();
  const about = withoutMessages(thread);
  if (thread.title.toLowerCase().includes(wanted)) return [{ ...about, match: { message_id: null, excerpt: thread.title } }];
  for (const { id, content } of thread.messages) {
    const at = content.toLowerCase().indexOf(wanted);
    if (at < 0) continue;
    const excerpt = content.slice(Math.max(0, at - EXCERPT), at + wanted.length + EXCERPT);
    return [{ ...about, match: { message_id: id, excerpt } }];
  }
  return [];
}

async function add(
  { title = "", system_prompt = "", model, settings = {}, metadata = {} }: Omit<AboutConversation, "model"> & { model?: string | null },
  messages: ConversationMessage[],
  leaf_id: string | null,
): Promise<Conversation> {
  const now = new Date().toISOString();
  const kept: ConversationThread = {
    id: `conv_${uuid()}`,
    ...{ title, system_prompt, model: model ?? null, settings, metadata, leaf_id, messages },
    created_at: now,
    updated_at: now,
    num_messages: messages.length,
    bytes: 0,
  };
  await request("readwrite", (store) => store.add(plain(kept)));
  return withoutMessages(kept);
}

function append(thread: ConversationThread, { role, content = "", job_id, parent_id, tool_call_id }: NewMessage): ConversationMessage {
  const message: ConversationMessage = {
    ...emptyMessage(),
    id: `msg_${job_id ?? uuid()}`,
    parent_id: parent_id === undefined ? thread.leaf_id : parent_id,
    role,
    content,
    tool_call_id: tool_call_id ?? null,
    job_id: job_id ?? null,
    status: job_id ? "in_progress" : "completed",
  };
  thread.messages.push(message);
  thread.leaf_id = message.id;
  return message;
}

function emptyMessage(): ConversationMessage {
  return {
    id: "",
    parent_id: null,
    role: "user",
    content: "",
    created_at: new Date().toISOString(),
    model: null,
    job_id: null,
    status: "completed",
    finish_reason: null,
    error: null,
    usage: null,
    rating: null,
    is_edited: false,
  };
}

function messageOf(thread: ConversationThread, id: string): ConversationMessage {
  const found = thread.messages.find((message) => message.id === id);
  if (found === undefined) throw new SlmError("There is no such message in the conversation.", "not_found", 404);
  return found;
}

async function find(id: string): Promise<ConversationThread> {
  const found = await request<ConversationThread | undefined>("readonly", (store) => store.get(id));
  if (found === undefined) throw new SlmError("There is no such conversation in this browser.", "not_found", 404);
  return found;
}

/** Change a conversation in one transaction, so that two tabs do not overwrite each other's messages. */
async function update<T>(id: string, change: (thread: ConversationThread) => T): Promise<T> {
  const database = await open();
  return new Promise<T>((resolve, reject) => {
    const transaction = database.transaction(STORE, "readwrite");
    const store = transaction.objectStore(STORE);
    let result: T;
    let failure: unknown = null;
    const read = store.get(id) as IDBRequest<ConversationThread | undefined>;
    read.onsuccess = () => {
      try {
        if (read.result === undefined) throw new SlmError("There is no such conversation in this browser.", "not_found", 404);
        result = change(read.result);
        read.result.updated_at = new Date().toISOString();
        read.result.num_messages = read.result.messages.length;
        store.put(plain(read.result));
      } catch (error) {
        failure = error;
        transaction.abort();
      }
    };
    transaction.oncomplete = () => resolve(result);
    transaction.onabort = () => reject(failure ?? unusable(transaction.error));
  });
}

async function request<T>(mode: IDBTransactionMode, ask: (store: IDBObjectStore) => IDBRequest): Promise<T> {
  const database = await open();
  return new Promise<T>((resolve, reject) => {
    const asked = ask(database.transaction(STORE, mode).objectStore(STORE));
    asked.onsuccess = () => resolve(asked.result as T);
    asked.onerror = () => reject(unusable(asked.error));
  });
}

let opened: Promise<IDBDatabase> | null = null;

function open(): Promise<IDBDatabase> {
  opened ??= new Promise((resolve, reject) => {
    const asked = indexedDB.open(DATABASE, 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore(STORE, { keyPath: "id" });
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(unusable(asked.error));
  });
  return opened;
}

function unusable(cause: unknown): SlmError {
  return new SlmError(`This browser cannot keep conversations: ${String(cause)}`, "browser_storage");
}

/** A copy that IndexedDB can store: proxies of reactive state cannot be cloned. */
function plain<T>(value: T): T {
  return JSON.parse(JSON.stringify(value)) as T;
}
