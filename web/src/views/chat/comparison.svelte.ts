import { SlmError } from "slm-client";
import { formatDecimal, formatNumber } from "../../parts/format";
import { answers, type LiveAnswer } from "../../stores/answers.svelte";
import { type ChatSettings, chatRequest } from "../../stores/chatSettings.svelte";
import { client } from "../../stores/client";
import { t } from "../../strings";

export const MAX_MODELS = 4;

/** One model's answer. */
export class Column {
  model = $state<string | null>(null);
  live = $state.raw<LiveAnswer | null>(null);
  answer = $state("");
  problem = $state("");
  note = $state("");

  get text(): string {
    return this.live?.text ?? this.answer;
  }

  constructor(model: string | null = null) {
    this.model = model;
  }
}

/** One question to several models with the same settings and seed. */
export class Comparison {
  columns = $state.raw<Column[]>([]);
  seed = $state(1);
  isBusy = $state(false);

  constructor(
    private readonly settings: ChatSettings,
    models: string[],
  ) {
    const columns = models.slice(0, MAX_MODELS).map((model) => new Column(model));
    while (columns.length < 2) columns.push(new Column());
    this.columns = columns;
  }

  add(): void {
    this.columns = [...this.columns, new Column()];
  }

  remove(column: Column): void {
    this.columns = this.columns.filter((one) => one !== column);
  }

  async ask(question: string): Promise<void> {
    this.isBusy = true;
    try {
      await Promise.all(this.columns.map((column) => this.#ask(column, question)));
    } finally {
      this.isBusy = false;
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.columns.map(({ live }) => live && client.jobs.cancel(live.jobId)));
  }

  async #ask(column: Column, question: string): Promise<void> {
    Object.assign(column, { answer: "", problem: "", note: "" });
    const { model: _, ...shared } = chatRequest(this.settings);
    const request = { ...shared, ...(column.model ? { model: column.model } : {}), seed: this.seed };
    try {
      const jobId = await client.generations.submitChat({ ...request, messages: [{ role: "user", content: question }] });
      const { answer, end } = answers.follow(jobId, performance.now());
      column.live = answer;
      const { job } = await end;
      column.answer = job.result?.response ?? answer.text;
      column.problem = job.error?.message ?? "";
      column.note = noteOf(job.model, job.result?.usage.completion_tokens ?? 0, answer.tokensPerS);
    } catch (error) {
      if (!(error instanceof SlmError)) throw error;
      column.problem = error.message;
    } finally {
      column.live = null;
    }
  }
}

function noteOf(model: string | null, tokens: number, tokensPerS: number | null): string {
  const parts = [model ?? "", t.chat.tokens(formatNumber(tokens))];
  if (tokensPerS !== null) parts.push(t.chat.perSecond(formatDecimal(tokensPerS)));
  return parts.filter(Boolean).join(" · ");
}
