import { type Info, SlmError } from "slm-client";
import { client } from "./client";
import { Metrics } from "./metrics";
import { session } from "./session.svelte";

const EVERY_MS = 5000;
const KEPT_MS = 15 * 60_000;

/** What was measured at one moment; null where it is not known. */
export interface Point {
  /** Seconds since the epoch. */
  at: number;
  waiting: number | null;
  running: number | null;
  tokensPerS: number | null;
  failuresPerMinute: number | null;
  firstTokenMs: number | null;
  betweenTokensMs: number | null;
}

interface Measurement {
  at: number;
  info: Info;
  /** Only admins get them. */
  metrics: Metrics | null;
}

/** The last 15 minutes, as far as the page was open. */
class History {
  points = $state.raw<Point[]>([]);
  latest = $state.raw<Measurement | null>(null);
  /** Tokens per second of each worker since the measurement before. */
  workerSpeeds = $state.raw<Map<string, number>>(new Map());
  #timer: ReturnType<typeof setTimeout> | null = null;

  /** Measure every few seconds from now on, as long as the page is open. */
  start(): void {
    if (this.#timer === null) void this.#run();
  }

  async #run(): Promise<void> {
    this.#timer = setTimeout(() => void this.#run(), EVERY_MS);
    try {
      this.#take({ at: Date.now() / 1000, info: await client.info(), metrics: session.isAdmin ? Metrics.parse(await client.metrics()) : null });
    } catch (error) {
      if (!(error instanceof SlmError)) throw error; // a gap in the curves says that the server was away
    }
  }

  #take(now: Measurement): void {
    const before = this.latest;
    this.latest = now;
    this.points = [...this.points.filter(({ at }) => now.at - at <= KEPT_MS / 1000), pointOf(now, before)];
    if (before) this.workerSpeeds = speeds(now, before);
  }
}

export const history = new History();

function pointOf(now: Measurement, before: Measurement | null): Point {
  const tokens = before && increase(now, before, "slm_generation_tokens_total");
  const failures = before && increase(now, before, "slm_jobs_total", { state: "failed" });
  const seconds = before ? now.at - before.at : 0;
  return {
    at: now.at,
    waiting: now.info.queue.waiting,
    running: now.info.queue.running,
    tokensPerS: tokens === null ? null : tokens / seconds,
    failuresPerMinute: failures === null ? null : (failures / seconds) * 60,
    firstTokenMs: before && meanMs(now, before, "slm_time_to_first_token_seconds"),
    betweenTokensMs: before && meanMs(now, before, "slm_inter_token_latency_seconds"),
  };
}

/** How much a counter has grown; a counter that began anew counts from 0, and one that is not there yet is 0. */
function increase(now: Measurement, before: Measurement, name: string, labels: Record<string, string> = {}): number | null {
  if (now.metrics === null || before.metrics === null) return null;
  const [newer, older] = [now.metrics.sum(name, labels) ?? 0, before.metrics.sum(name, labels) ?? 0];
  return newer < older ? newer : newer - older;
}

function meanMs(now: Measurement, before: Measurement, histogram: string): number | null {
  const sum = increase(now, before, `${histogram}_sum`);
  const count = increase(now, before, `${histogram}_count`);
  return sum === null || !count ? null : (sum / count) * 1000;
}

function speeds(now: Measurement, before: Measurement): Map<string, number> {
  const found = new Map<string, number>();
  for (const { id } of now.info.workers) {
    const tokens = increase(now, before, "slm_generation_tokens_total", { worker: id });
    if (tokens !== null) found.set(id, tokens / (now.at - before.at));
  }
  return found;
}
