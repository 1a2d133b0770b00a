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

/** The messages by the ids of their parents, oldest first: the branches at each place. */
export function byParent(messages: ReadonlyMap<string, ConversationMessage>): Map<string | null, ConversationMessage[]> {
  const children = new Map<string | null, ConversationMessage[]>();
  for (const message of messages.values()) {
    const siblings = children.get(message.parent_id);
    if (siblings) siblings.push(message);
    else children.set(message.parent_id, [message]);
  }
  return children;
}

/** The newest leaf below a message: what to show if its branch is chosen. */
export function newestLeaf(messages: ReadonlyMap<string, ConversationMessage>, id: string): string {
  const lastChild = new Map<string | null, string>();
  for (const message of messages.values()) lastChild.set(message.parent_id, message.id);
  let leaf = id;
  for (let child = lastChild.get(leaf); child !== undefined; child = lastChild.get(leaf)) leaf = child;
  return leaf;
}
