import { type ChatRequest, type Conversation, type ConversationMessage, type ConversationThread, type Generated, type Job, type Message, SlmError } from "slm-client";
import { answers, type EndedAnswer, type LiveAnswer } from "../answers.svelte";
import { type ChatSettings, chatRequest } from "../chatSettings.svelte";
import { client } from "../client";
import { patiently } from "../patience";
import { uuid } from "../uuid";
import { splitCalls } from "./calls";
import type { Ended } from "./keeper";
import { conversationList, keeper } from "./list.svelte";
import { splitReasoning } from "./reasoning";
import { byParent, newestLeaf, pathTo } from "./tree";

const MAX_TITLE = 60;

/** How fast an answer was; known while the page that has seen it is open. */
export interface Speed {
  tokensPerS: number | null;
  firstTokenMs: number | null;
}

/** The conversation that is shown: its messages, the branch of them that is shown, and the answers being written. */
export class Thread {
  about = $state.raw<Conversation | null>(null);
  messages = $state.raw<ReadonlyMap<string, ConversationMessage>>(new Map());
  leafId = $state<string | null>(null);
  live = $state.raw<ReadonlyMap<string, LiveAnswer>>(new Map());
  speeds = $state.raw<ReadonlyMap<string, Speed>>(new Map());
  /** Whether a request is on its way that has no job yet. */
  isSending = $state(false);
  /** Whether the conversation is being opened; until it is, nothing can be said in it. */
  isOpening = $state(false);
  /** Whether the server is away, so that the conversation cannot be opened yet. */
  isAway = $state(false);
  problem = $state.raw<SlmError | null>(null);
  readonly path = $derived(pathTo(this.messages, this.leafId));
  readonly #children = $derived(byParent(this.messages));

  constructor(readonly settings: ChatSettings) {}

  /** The answer that is being written in the branch that is shown. */
  get running(): LiveAnswer | null {
    const last = this.path.at(-1);
    return (last && this.live.get(last.id)) ?? null;
  }

  get isBusy(): boolean {
    return this.isOpening || this.isSending || this.running !== null;
  }

  /** Show a conversation. Waits for a server that is away, as long as the thread `isWanted`. Throws an `SlmError`. */
  async load(id: string, isWanted: () => boolean): Promise<void> {
    this.isOpening = true;
    try {
      const read = await patiently(
        () => keeper().read(id),
        () => (this.isAway = isWanted()),
      );
      this.#take(read);
      this.settings.take(read);
    } finally {
      this.isOpening = this.isAway = false;
    }
  }

  /** Load it again if it has changed elsewhere, but not in the middle of a change of our own. */
  async refresh(): Promise<void> {
    if (this.about === null || this.isSending) return;
    const read = await keeper().read(this.about.id);
    if (!this.isSending && this.about.id === read.id) this.#take(read);
  }

  #take({ messages, ...about }: ConversationThread): void {
    this.about = about;
    this.messages = new Map(messages.map((message) => [message.id, message]));
    this.leafId = about.leaf_id;
    for (const message of messages) if (message.status === "in_progress" && message.job_id !== null) this.#follow(message);
  }

  /** Say something, and get an answer. */
  send(text: string): Promise<void> {
    return this.#say(text, this.leafId);
  }

  /** Say something else instead of an earlier message: a new branch. */
  edit(message: ConversationMessage, text: string): Promise<void> {
    return this.#say(text, message.parent_id);
  }

  /** Get another answer to the message before an answer, or the first one to a message that has none. */
  async regenerate(message: ConversationMessage): Promise<void> {
    const question = message.role === "user" ? message.id : this.#firstOfTurn(message).parent_id;
    if (question !== null) await this.#trying(() => this.#answer(question));
  }

  /** Let the model go on with an answer. */
  async goOn(message: ConversationMessage): Promise<void> {
    await this.#trying(() => this.#answer(message.id));
  }

  /** Show the branch with this message. */
  async choose(message: ConversationMessage): Promise<void> {
    const leaf = newestLeaf(this.messages, message.id);
    this.leafId = leaf;
    if (this.about) await keeper().change(this.about.id, { leaf_id: leaf });
  }

  /** Tell the model what the functions that an answer has called returned: a result for each call, in their order. */
  async giveResults(message: ConversationMessage, results: string[]): Promise<void> {
    const { about } = this;
    if (about === null) return;
    await this.#trying(async () => {
      let parent = message.id;
      for (const [index, { id }] of splitCalls(message.content, message.id).calls.entries()) {
        const kept = await keeper().append(about.id, { role: "tool", content: results[index] ?? "", tool_call_id: id, parent_id: parent });
        this.#put(kept);
        parent = kept.id;
      }
      this.leafId = parent;
      await this.#answer(parent);
    });
  }

  /** The branches at the place of a message, oldest first. */
  siblings({ parent_id, role }: ConversationMessage): ConversationMessage[] {
    return (this.#children.get(parent_id) ?? []).filter((one) => one.role === role);
  }

  async stop(): Promise<void> {
    const { running } = this;
    if (running) await client.jobs.cancel(running.jobId);
  }

  async rate(message: ConversationMessage, rating: "up" | "down" | null): Promise<void> {
    if (this.about === null || message.job_id === null) return;
    if (rating === null) await client.jobs.deleteFeedback(message.job_id);
    else await client.jobs.giveFeedback(message.job_id, { rating });
    this.#put(await keeper().changeMessage(this.about.id, message.id, { rating }));
  }

  async correct(message: ConversationMessage, correction: string): Promise<void> {
    if (this.about === null || message.job_id === null) return;
    await client.jobs.giveFeedback(message.job_id, { rating: "down", correction });
    await keeper().changeMessage(this.about.id, message.id, { rating: "down" });
    this.#put(await keeper().changeMessage(this.about.id, message.id, { content: correction }));
  }

  /**
   * The messages that the model gets to answer the one with this id. Parts of one answer are joined. What it has thought
   * before the last question is left out, as reasoning models expect it.
   */
  promptFor(id: string | null): Message[] {
    const prompt: Message[] = [];
    const system = this.settings.systemPrompt.trim();
    if (system) prompt.push({ role: "system", content: system });
    for (const { id: messageId, role, content, tool_call_id } of pathTo(this.messages, id)) {
      const last = prompt.at(-1);
      const { content: said, calls } = role === "assistant" ? splitCalls(content, messageId) : { content, calls: [] };
      if (role === "assistant" && last?.role === "assistant") last.content = joined(last.content, content);
      else prompt.push({ role, content: said, ...(calls.length ? { tool_calls: calls } : {}), ...(tool_call_id ? { tool_call_id } : {}) });
    }
    const question = prompt.findLastIndex(({ role }) => role === "user");
    return prompt.map((one, index) => (one.role === "assistant" && index < question ? { ...one, content: splitReasoning(one.content).content } : one));
  }

  async #say(text: string, parentId: string | null): Promise<void> {
    await this.#trying(async () => {
      this.about ??= await keeper().create({ title: titleOf(text), ...this.settings.about() });
      const { id } = this.about;
      const said = await keeper().append(id, { role: "user", content: text, parent_id: parentId });
      this.#put(said);
      this.leafId = said.id;
      conversationList.announce(id);
      await this.#answer(said.id);
    });
  }

  async #answer(parentId: string): Promise<void> {
    const { about } = this;
    if (about === null) return;
    const place = { id: about.id, parent_id: parentId };
    this.leafId = parentId;
    const request: ChatRequest = {
      ...chatRequest(this.settings),
      messages: this.promptFor(parentId),
      continue_final_message: this.messages.get(parentId)?.role === "assistant",
      conversation: keeper().placeOf(place),
    };
    const askedAt = performance.now();
    const jobId = await client.generations.submitChat(request, { idempotencyKey: uuid() });
    const kept = await keeper().keepAnswer(place, jobId);
    this.#put(kept);
    this.leafId = kept.id;
    this.#follow(kept, askedAt);
    conversationList.announce(about.id);
  }

  async #trying(action: () => Promise<void>): Promise<void> {
    if (this.isBusy) return;
    this.isSending = true;
    this.problem = null;
    try {
      await action();
    } catch (error) {
      if (!(error instanceof SlmError)) throw error;
      this.problem = error;
    } finally {
      this.isSending = false;
    }
  }

  #follow(message: ConversationMessage, askedAt: number | null = null): void {
    if (message.job_id === null || this.live.has(message.id)) return;
    const { answer, end } = answers.follow(message.job_id, askedAt);
    this.live = new Map(this.live).set(message.id, answer);
    const id = this.about?.id ?? "";
    void end
      .then(
        (ended) => this.#ended(message.id, answer, ended),
        (error: unknown) => this.#lost(message.id, answer, error),
      )
      .then((settled) => keeper().settle(id, message.id, settled))
      .then(() => conversationList.announce(id))
      .catch((error: unknown) => {
        if (!(error instanceof SlmError)) throw error;
        this.problem = error;
      })
      .finally(() => {
        const live = new Map(this.live);
        live.delete(message.id);
        this.live = live;
      });
  }

  #ended(id: string, answer: LiveAnswer, { job, rawText }: EndedAnswer): Ended {
    const ended = endOf(job, rawText || answer.text);
    this.speeds = new Map(this.speeds).set(id, speedOf(job, answer));
    this.#change(id, ended);
    return ended;
  }

  /** The job cannot be followed any more; what has come stays. */
  #lost(id: string, answer: LiveAnswer, error: unknown): Ended {
    if (!(error instanceof SlmError)) throw error;
    const failure = { code: error.code, message: error.message };
    const ended: Ended = { content: answer.text.trim(), status: "incomplete", model: null, finish_reason: null, error: failure, usage: null };
    this.#change(id, ended);
    return ended;
  }

  #firstOfTurn(message: ConversationMessage): ConversationMessage {
    const parent = message.parent_id === null ? undefined : this.messages.get(message.parent_id);
    return parent?.role === "assistant" ? this.#firstOfTurn(parent) : message;
  }

  #put(message: ConversationMessage): void {
    this.messages = new Map(this.messages).set(message.id, message);
  }

  #change(id: string, changes: Partial<ConversationMessage>): void {
    const message = this.messages.get(id);
    if (message !== undefined) this.#put({ ...message, ...changes });
  }
}

/** Join an answer and its continuation; the server has cut the white space between them off. */
export function joined(text: string, more: string): string {
  return !text || /\s$/.test(text) || /^[\s,.;:!?)]/.test(more) || !more ? text + more : `${text} ${more}`;
}

function endOf({ result, error, status, model }: Job<Generated>, text: string): Ended {
  return {
    content: result?.response ?? text.trim(),
    status: status === "succeeded" ? "completed" : "incomplete",
    model,
    finish_reason: result?.finish_reason ?? null,
    error: error ? { code: error.code, message: error.message } : null,
    usage: result ? { prompt_tokens: result.usage.prompt_tokens, completion_tokens: result.usage.completion_tokens } : null,
  };
}

function speedOf({ result }: Job<Generated>, answer: LiveAnswer): Speed {
  const { run_ms = null, first_token_ms = null } = result?.timings ?? {};
  const tokens = result?.usage.completion_tokens ?? 0;
  const writing = run_ms === null || first_token_ms === null ? 0 : run_ms - first_token_ms;
  return {
    tokensPerS: tokens > 1 && writing > 0 ? (1000 * (tokens - 1)) / writing : null,
    firstTokenMs: answer.firstTokenMs ?? first_token_ms,
  };
}

function titleOf(text: string): string {
  const line = text.replace(/<file name="[^"]*">[\s\S]*?<\/file>/g, "").trim().split("\n", 1)[0]?.trim() || text.trim();
  return line.length <= MAX_TITLE ? line : `${line.slice(0, MAX_TITLE - 1)}…`;
}
