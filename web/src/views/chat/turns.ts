import type { ConversationMessage } from "slm-client";

/** What one side says: a message, an answer with its continuations, or the result of a tool. */
export interface Turn {
  id: string;
  role: "user" | "assistant" | "tool";
  messages: ConversationMessage[];
}

/** Group the messages of a branch into turns. */
export function turnsOf(path: readonly ConversationMessage[]): Turn[] {
  const turns: Turn[] = [];
  for (const message of path) {
    if (message.role === "system") continue;
    const last = turns.at(-1);
    if (message.role === "assistant" && last?.role === "assistant") last.messages.push(message);
    else turns.push({ id: message.id, role: message.role, messages: [message] });
  }
  return turns;
}
