/** An answer in which the model thinks first. */
export interface Thought {
  /** What it thinks; empty if it does not. */
  reasoning: string;
  /** What it says: the end of the text. */
  content: string;
  /** Whether it still thinks. */
  isThinking: boolean;
}

const BEGIN = "<think>";
const END = "</think>";
/** The end of what a template has begun: the answer has no `<think>` then, and the end is on a line of its own. */
const END_ALONE = /^<\/think>[ \t]*$/m;

/** Split an answer, which may still be growing, into what the model thinks and what it says. */
export function splitReasoning(text: string): Thought {
  const written = text.trimStart();
  if (written.startsWith(BEGIN)) return split(written.slice(BEGIN.length), written.indexOf(END) - BEGIN.length);
  const end = END_ALONE.exec(text);
  const isExample = end === null || text.slice(0, end.index).includes(BEGIN); // such as code that has both
  return isExample ? { reasoning: "", content: text, isThinking: false } : split(text, end.index);
}

/** Split a text that begins with a thought; `end` is negative while the thought has none. */
function split(text: string, end: number): Thought {
  if (end < 0) return { reasoning: text.trim(), content: "", isThinking: true };
  return { reasoning: text.slice(0, end).trim(), content: text.slice(end + END.length).trimStart(), isThinking: false };
}
