import type { ConversationMessage } from "slm-client";

/** The messages from the first one to `leafId`. */
export function pathTo(messages: ReadonlyMap<string, ConversationMessage>, leafId: string | null): ConversationMessage[] {
  const path: ConversationMessage[] = [];
  for (let id = leafId; id !== null; ) {
    const message = messages.get(id);
    if (message === undefined) break;
    path.push(message);
    id = message.parent_id;
  }
  return path.reverse();
}

/** The messages with the same parent, oldest first: the branches at this place. */
export function siblingsOf(messages: ReadonlyMap<string, ConversationMessage>, message: ConversationMessage): ConversationMessage[] {
  return [...messages.values()].filter(({ parent_id, role }) => parent_id === message.parent_id && role === message.role);
}

/** The newest leaf below a message: what to show if its branch is chosen. */
export function newestLeaf(messages: ReadonlyMap<string, ConversationMessage>, id: string): string {
  const lastChild = new Map<string | null, string>();
  for (const message of messages.values()) lastChild.set(message.parent_id, message.id);
  let leaf = id;
  for (let child = lastChild.get(leaf); child !== undefined; child = lastChild.get(leaf)) leaf = child;
  return leaf;
}
