import { SlmError } from "slm-client";
import { client } from "../../stores/client";
import { t } from "../../strings";

const MAX_BYTES = 1_000_000;

/** A text file that goes with a message, and how many tokens it has; null while they are being counted. */
export interface Attachment {
  name: string;
  text: string;
  tokens: number | null;
}

/** Read a text file. Throws an `SlmError` if it is too large or no text. */
export async function readAttachment(file: File): Promise<Attachment> {
  if (file.size > MAX_BYTES) throw new SlmError(t.chat.tooLarge(file.name), "body_too_large");
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    if (!text.includes("\0")) return { name: file.name, text, tokens: null };
  } catch {
    // reported below
  }
  throw new SlmError(t.chat.notText(file.name), "invalid_request");
}

/** The message with its files. */
export function withAttachments(text: string, attachments: readonly Attachment[]): string {
  const files = attachments.map((one) => `<file name="${one.name.replaceAll('"', "'")}">\n${one.text.trimEnd()}\n</file>`);
  return [...files, text].filter(Boolean).join("\n\n");
}

/** The number of tokens of a text for a model. */
export async function countTokens(text: string, model: string | null, signal?: AbortSignal): Promise<number> {
  return (await client.tokenize({ raw_text: text }, model ?? undefined, signal)).count;
}
