import type { Job } from "slm-client";
import { formatDuration, formatTime } from "../../parts/format";
import { t } from "../../strings";

export interface Step {
  label: string;
  /** When it happened, or how long it took. */
  value: string;
}

/** What has happened to a job until now, in order. */
export function timeline(job: Job): Step[] {
  const { queue_ms, run_ms, first_token_ms } = job.timings;
  const steps: (Step | null)[] = [
    at(t.jobs.created, job.created_at),
    lasted(t.jobs.waited, queue_ms),
    at(t.jobs.started, job.started_at),
    job.attempt > 1 ? { label: t.jobs.failovers(job.attempt - 1), value: "" } : null,
    lasted(t.jobs.prefill, first_token_ms),
    first_token_ms === null ? lasted(t.jobs.worked, run_ms) : lasted(t.jobs.decode, run_ms === null ? null : run_ms - first_token_ms),
    at(t.jobs.ended, job.finished_at),
  ];
  return steps.filter((step) => step !== null);
}

function at(label: string, time: string | null): Step | null {
  return time === null ? null : { label, value: formatTime(time) };
}

function lasted(label: string, ms: number | null): Step | null {
  return ms === null ? null : { label, value: formatDuration(Math.max(0, ms)) };
}
