import DOMPurify from "dompurify";
import MarkdownIt from "markdown-it";

/** A block of a text: its HTML, which is safe, and whether more text cannot change it. */
export interface Block {
  html: string;
  isFinal: boolean;
}

export type Highlight = (code: string, language: string) => string | null;

const markdown = new MarkdownIt({ html: false, linkify: true, breaks: true });
markdown.disable("image"); // pictures would come from other hosts

/** Write alignment as a class: the page's policy forbids `style`. */
markdown.core.ruler.push("alignment", ({ tokens }) => {
  for (const token of tokens) {
    const side = /text-align:(\w+)/.exec(String(token.attrGet("style") ?? ""))?.[1];
    if (side === undefined) continue;
    token.attrs = (token.attrs ?? []).filter(([name]) => name !== "style");
    token.attrJoin("class", `align-${side}`);
  }
});

markdown.renderer.rules.fence = (tokens, index, _options, env) => {
  const token = tokens[index];
  const language = token?.info.trim().split(/\s+/, 1)[0] ?? "";
  return codeBlock(token?.content ?? "", language, env?.["highlight"] as Highlight | undefined);
};
markdown.renderer.rules.code_block = (tokens, index) => codeBlock(tokens[index]?.content ?? "", "");

function codeBlock(code: string, language: string, highlight?: Highlight): string {
  const { escapeHtml } = markdown.utils;
  const body = (language && highlight?.(code, language)) || escapeHtml(code);
  return `<div class="code"><div class="code-head"><span>${escapeHtml(language)}</span><button type="button" class="plain small" data-copy>Copy</button></div><pre tabindex="0"><code>${body}</code></pre></div>`;
}

const ALLOWED_TAGS = [
  ...["p", "br", "hr", "strong", "em", "s", "a", "code", "pre", "span", "div", "button", "blockquote"],
  ...["ul", "ol", "li", "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"],
];
const ALLOWED_ATTR = ["href", "class", "type", "data-copy", "tabindex", "start", "target", "rel"];

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName !== "A") return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer");
});

function safe(html: string): string {
  return DOMPurify.sanitize(html, { ALLOWED_TAGS, ALLOWED_ATTR, ALLOW_DATA_ATTR: false, ALLOW_ARIA_ATTR: false });
}

/**
 * Renders a text that grows. A block is rendered once and for all when another one has begun after it, so that a long
 * answer costs no more per piece than a short one.
 */
export class GrowingMarkdown {
  readonly #final: Block[] = [];
  #done = 0; // the length of the text in final blocks
  #seen = "";

  constructor(private readonly highlight?: Highlight) {}

  /** Return the blocks of the text. If it does not begin with the earlier text, everything is rendered again. */
  render(text: string, isComplete: boolean): Block[] {
    if (!text.startsWith(this.#seen)) this.#forget();
    this.#seen = text;
    if (isComplete && this.#done === 0) return text.trim() ? [{ html: this.#html(text), isFinal: true }] : [];
    const rest = text.slice(this.#done);
    const starts = blockStarts(rest);
    for (const [start, end] of pairs(starts)) this.#final.push({ html: this.#html(rest.slice(start, end)), isFinal: true });
    const open = starts.at(-1) ?? 0;
    this.#done += open;
    const last = rest.slice(open);
    return last.trim() ? [...this.#final, { html: this.#html(last, isComplete), isFinal: isComplete }] : this.#final;
  }

  #html(source: string, isFinal = true): string {
    return safe(markdown.render(source, isFinal ? { highlight: this.highlight } : {}));
  }

  #forget(): void {
    this.#final.length = 0;
    this.#done = 0;
  }
}

/** The places in a text where its outermost blocks begin. */
function blockStarts(text: string): number[] {
  const lines: number[] = [0];
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) lines.push(at + 1);
  const tops = markdown.parse(text, {}).filter(({ level, map, nesting }) => level === 0 && map !== null && nesting >= 0);
  return tops.map(({ map }) => lines[map?.[0] ?? 0] ?? 0);
}

function* pairs(values: number[]): Generator<[number, number]> {
  for (let index = 0; index + 1 < values.length; index++) yield [values[index] ?? 0, values[index + 1] ?? 0];
}
