import type {
  AboutConversation,
  Conversation,
  ConversationMessage,
  ConversationPage,
  ConversationPlace,
  ConversationThread,
  ExportedConversation,
  NewMessage,
} from "slm-client";

export interface Ended {
  content: string;
  status: "completed" | "incomplete";
  model: string | null;
  finish_reason: string | null;
  error: ConversationMessage["error"];
  usage: ConversationMessage["usage"];
}

/** Where conversations are kept: on the server, or in this browser only. */
export interface Keeper {
  list(wanted: { after?: string; q?: string }): Promise<ConversationPage>;
  create(about: AboutConversation): Promise<Conversation>;
  read(id: string): Promise<ConversationThread>;
  change(id: string, changes: AboutConversation & { leaf_id?: string }): Promise<Conversation>;
  delete(id: string): Promise<void>;
  append(id: string, message: NewMessage): Promise<ConversationMessage>;
  changeMessage(id: string, messageId: string, changes: { content?: string; rating?: "up" | "down" | null }): Promise<ConversationMessage>;
  export(id: string): Promise<ExportedConversation>;
  import(exported: ExportedConversation): Promise<Conversation>;
  /** What a generation says so that its answer is kept; undefined if the page keeps it by itself. */
  placeOf(place: ConversationPlace): ConversationPlace | undefined;
  /** Keep the answer of a job that was submitted just now. */
  keepAnswer(place: ConversationPlace, jobId: string): Promise<ConversationMessage>;
  /** Keep the text of an answer that has ended. */
  settle(id: string, messageId: string, ended: Ended): Promise<void>;
}
