import type { ToolCall } from "slm-client";
import { splitReasoning } from "./reasoning";

/** How models begin their calls; the last one is a call itself, and can only begin an answer. */
const MARKER = /<tool_call>|\[TOOL_CALLS\]|^\s*(?=\{"name": "[^"]*", "parameters": )/;

interface Written {
  name?: unknown;
  arguments?: unknown;
  parameters?: unknown;
}

/**
 * The text of an answer, and its calls of tools; what the model thinks is text. `id` is the message's, from which those
 * of the calls are made.
 */
export function splitCalls(text: string, id: string): { content: string; calls: ToolCall[] } {
  const { content } = splitReasoning(text);
  const found = MARKER.exec(content);
  if (found === null) return { content: text, calls: [] };
  const calls = objectsIn(content.slice(found.index + found[0].length)).flatMap((written, index) => callOf(written, `call_${index}_${id}`));
  const start = text.length - content.length + found.index;
  return calls.length ? { content: text.slice(0, start).trimEnd(), calls } : { content: text, calls: [] };
}

function callOf(text: string, id: string): ToolCall[] {
  try {
    const written = JSON.parse(text) as Written;
    const given = written.arguments ?? written.parameters ?? {};
    return typeof written.name === "string" ? [{ id, type: "function", function: { name: written.name, arguments: JSON.stringify(given) } }] : [];
  } catch {
    return [];
  }
}

/** The JSON objects in a text, one after another. */
function objectsIn(text: string): string[] {
  const found: string[] = [];
  let depth = 0;
  let start = 0;
  for (const { 0: part, index } of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}]/g)) {
    if (part === "{" && depth++ === 0) start = index;
    if (part === "}" && depth > 0 && --depth === 0) found.push(text.slice(start, index + 1));
  }
  return found;
}
