import { type ConversationMessage, type ExportedConversation, type ListedConversation, SlmError } from "slm-client";
import { t } from "../../strings";
import { conversationList, keeper } from "./list.svelte";
import { pathTo } from "./tree";

/** Save a conversation as a file: all of it as JSON, or the branch that is shown as Markdown. */
export async function exportConversation({ id, title }: ListedConversation, format: "json" | "markdown"): Promise<void> {
  const exported = await keeper().export(id);
  const name = title.replace(/[^\p{L}\p{N}._-]+/gu, "-").replace(/^-+|-+$/g, "") || "conversation";
  if (format === "json") save(`${name}.json`, "application/json", JSON.stringify(exported, null, 2));
  else save(`${name}.md`, "text/markdown", markdownOf(exported));
}

/** Read an exported conversation. Returns the id of the new one. Throws an `SlmError`. */
export async function importConversation(file: File): Promise<string> {
  const { id } = await keeper().import(parsed(await file.text()));
  conversationList.announce(id);
  return id;
}

function parsed(text: string): ExportedConversation {
  try {
    const value = JSON.parse(text) as Partial<ExportedConversation>;
    if (value.version === 1 && Array.isArray(value.messages)) return value as ExportedConversation;
  } catch {
    // reported below
  }
  throw new SlmError(t.chat.notAnExport, "invalid_request");
}

const NAMES: Record<ConversationMessage["role"], string> = { system: "System", user: t.chat.you, assistant: t.chat.assistant, tool: "Tool" };

function markdownOf({ title, system_prompt, messages, leaf_id }: ExportedConversation): string {
  const path = pathTo(new Map(messages.map((message) => [message.id, message])), leaf_id);
  const parts = path.map(({ role, content }) => `## ${NAMES[role]}\n\n${content}`);
  if (system_prompt) parts.unshift(`## ${NAMES.system}\n\n${system_prompt}`);
  return `${[`# ${title || t.chat.untitled}`, ...parts].join("\n\n")}\n`;
}

function save(name: string, type: string, content: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
