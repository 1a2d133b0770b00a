import type { ChatRequest, Conversation, ConversationSettings, FunctionDefinition } from "slm-client";

/** The form that answers must have. */
export type AnswerForm = { kind: "any" } | { kind: "json" } | { kind: "schema"; text: string } | { kind: "regex"; text: string };

/** The functions that answers may call (`text`, as JSON), and whether they must. */
export interface Tools {
  text: string;
  choice: "auto" | "required";
}

/** A system prompt with sampling settings, under a name. */
export interface Preset {
  name: string;
  systemPrompt: string;
  sampling: ConversationSettings;
}

const ITEM = "slm-chat-settings";
const PRESETS_ITEM = "slm-chat-presets";

export const DEFAULT_SAMPLING = { temperature: 0.7, max_new_tokens: 512 } satisfies ConversationSettings;

/** How a conversation is answered: model, system prompt, sampling, form. New conversations begin with the last ones. */
export class ChatSettings {
  model = $state<string | null>(null);
  systemPrompt = $state("");
  sampling = $state<ConversationSettings>({ ...DEFAULT_SAMPLING });
  form = $state<AnswerForm>({ kind: "any" });
  tools = $state<Tools | null>(null);

  constructor() {
    const kept = read<{ model?: string | null; sampling?: ConversationSettings }>(ITEM, {});
    this.model = kept.model ?? null;
    this.sampling = { ...DEFAULT_SAMPLING, ...kept.sampling };
  }

  /** Use the settings of a conversation. */
  take({ model, system_prompt, settings }: Conversation): void {
    this.model = model;
    this.systemPrompt = system_prompt;
    this.sampling = { ...DEFAULT_SAMPLING, ...settings };
  }

  /** What to keep of them in the conversation. */
  about() {
    const model = this.model ? { model: this.model } : {};
    return { ...model, system_prompt: this.systemPrompt, settings: $state.snapshot(this.sampling) };
  }

  /** Begin new conversations with these settings. */
  keep(): void {
    localStorage.setItem(ITEM, JSON.stringify({ model: this.model, sampling: this.sampling }));
  }

  reset(): void {
    this.sampling = { ...DEFAULT_SAMPLING };
    this.form = { kind: "any" };
    this.tools = null;
    this.keep();
  }
}

/** The fields of a request that follow from the settings. */
export function chatRequest(settings: ChatSettings): Omit<ChatRequest, "messages"> {
  const { max_new_tokens, min_new_tokens, do_sample, temperature, ...rest } = $state.snapshot(settings.sampling);
  return {
    ...rest,
    ...(settings.model ? { model: settings.model } : {}),
    ...(max_new_tokens === undefined ? {} : { max_tokens: max_new_tokens }),
    ...(min_new_tokens === undefined ? {} : { min_tokens: min_new_tokens }),
    temperature: do_sample === false ? 0 : (temperature ?? DEFAULT_SAMPLING.temperature),
    ...formFields(settings.form),
    ...toolFields(settings.tools),
  };
}

function toolFields(tools: Tools | null): Pick<ChatRequest, "tools" | "tool_choice"> {
  return tools === null ? {} : { tools: toolsOf(tools.text).map((one) => ({ type: "function", function: one })), tool_choice: tools.choice };
}

/** The functions in a JSON text: a list, each alone or as OpenAI wraps it. Throws an error if it is something else. */
export function toolsOf(text: string): FunctionDefinition[] {
  const found = JSON.parse(text) as unknown;
  if (!Array.isArray(found) || found.length === 0) throw new TypeError("not a list");
  return found.map((one: FunctionDefinition | { function?: FunctionDefinition }) => {
    const definition = "function" in one && one.function ? one.function : (one as FunctionDefinition);
    if (typeof definition.name !== "string") throw new TypeError("no name");
    return definition;
  });
}

function formFields(form: AnswerForm): Pick<ChatRequest, "response_format" | "structured_outputs"> {
  switch (form.kind) {
    case "json":
      return { response_format: { type: "json_object" } };
    case "schema":
      return { response_format: { type: "json_schema", json_schema: { name: "answer", schema: JSON.parse(form.text) as unknown } } };
    case "regex":
      return { structured_outputs: { regex: form.text } };
    default:
      return {};
  }
}

/** Presets, kept in this browser. */
class Presets {
  all = $state<Preset[]>(read<Preset[]>(PRESETS_ITEM, []));

  save(preset: Preset): void {
    this.all = [...this.all.filter(({ name }) => name !== preset.name), preset].sort((a, b) => a.name.localeCompare(b.name));
    this.#keep();
  }

  remove(name: string): void {
    this.all = this.all.filter((one) => one.name !== name);
    this.#keep();
  }

  #keep(): void {
    localStorage.setItem(PRESETS_ITEM, JSON.stringify(this.all));
  }
}

function read<T>(item: string, otherwise: T): T {
  try {
    return (JSON.parse(localStorage.getItem(item) ?? "null") as T | null) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export const presets = new Presets();
