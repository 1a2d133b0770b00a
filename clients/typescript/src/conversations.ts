import type { Http } from "./http.js";
import type {
  AboutConversation,
  Conversation,
  ConversationMessage,
  ConversationPage,
  ConversationThread,
  ExportedConversation,
  NewMessage,
} from "./types.js";

/** Conversations that are kept on the server: trees of messages, some of which jobs write. */
export class Conversations {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  /** A page of the conversations, the latest change first; with `q`, those that have this text. */
  list(wanted: { after?: string; limit?: number; q?: string } = {}): Promise<ConversationPage> {
    return this.#http.json("GET", ROOT, { query: wanted });
  }

  create(about: AboutConversation = {}): Promise<Conversation> {
    return this.#http.json("POST", ROOT, { json: about });
  }

  read(id: string): Promise<ConversationThread> {
    return this.#http.json("GET", path(id));
  }

  change(id: string, changes: AboutConversation & { leaf_id?: string }): Promise<Conversation> {
    return this.#http.json("PATCH", path(id), { json: changes });
  }

  async delete(id: string): Promise<void> {
    await this.#http.json("DELETE", path(id));
  }

  /** Append a message. With a `job_id`, the job writes it. */
  append(id: string, message: NewMessage): Promise<ConversationMessage> {
    return this.#http.json("POST", `${path(id)}/messages`, { json: message });
  }

  changeMessage(
    id: string,
    messageId: string,
    changes: { content?: string; rating?: "up" | "down" | null },
  ): Promise<ConversationMessage> {
    return this.#http.json("PATCH", messagePath(id, messageId), { json: changes });
  }

  /** Delete a message and all that follow it. */
  async deleteMessage(id: string, messageId: string): Promise<void> {
    await this.#http.json("DELETE", messagePath(id, messageId));
  }

  export(id: string): Promise<ExportedConversation> {
    return this.#http.json("GET", `${path(id)}/export`);
  }

  async exportMarkdown(id: string): Promise<string> {
    return (await this.#http.send("GET", `${path(id)}/export`, { query: { format: "markdown" } })).text();
  }

  import(exported: ExportedConversation): Promise<Conversation> {
    return this.#http.json("POST", `${ROOT}/import`, { json: exported });
  }
}

const ROOT = "/slm/conversations";

function path(id: string): string {
  return `${ROOT}/${encodeURIComponent(id)}`;
}

function messagePath(id: string, messageId: string): string {
  return `${path(id)}/messages/${encodeURIComponent(messageId)}`;
}
