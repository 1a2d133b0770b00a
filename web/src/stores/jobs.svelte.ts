import { type Job, type JobSummary, SlmError } from "slm-client";
import { SvelteMap } from "svelte/reactivity";
import { client } from "./client";
import { Loaded } from "./loaded.svelte";
import { Search } from "./search";

const MAX_LISTED = 1000; // of the server
const DETAILS_AT_ONCE = 12;

/** The newest jobs, or those with a text: the caller's own, an admin's everybody's. */
class JobList extends Loaded<JobSummary[]> {
  limit = $state(100);
  query = $state("");
  readonly #search = new Search<JobSummary[]>((found) => found.some(isActive));

  constructor() {
    super(async () => {
      const q = this.query.trim();
      const all = () => client.jobs.list(this.limit);
      const found = await (q ? this.#find(q, all) : all());
      return q === this.query.trim() ? found : (this.value ?? []); // else a newer search is under way
    });
  }

  #find(q: string, all: () => Promise<JobSummary[]>): Promise<JobSummary[]> {
    const newest = async () => (await all()).map(({ job_id, status }) => `${job_id} ${status}`).join();
    return this.#search.find(`${q} ${this.limit}`, newest, () => client.jobs.list(this.limit, { q }));
  }

  get mayHaveMore(): boolean {
    return this.limit < MAX_LISTED && this.value?.length === this.limit;
  }

  showMore(): Promise<void> {
    this.limit = Math.min(MAX_LISTED, this.limit * 3);
    return this.refresh();
  }
}

export const jobs = new JobList();

/** The jobs that were set aside; for admins. */
export const deadLetters = new Loaded(() => client.jobs.deadLetters());

/** Whether the job goes on, or may. */
export function isActive({ status }: Pick<JobSummary, "status">): boolean {
  return status === "queued" || status === "running" || status === "paused";
}

/** What the list does not say of its jobs: place, tokens. A few are loaded at a time; of jobs that have ended, once. */
class JobDetails {
  readonly byId = new SvelteMap<string, Job>();

  async fill(wanted: JobSummary[]): Promise<void> {
    const missing = wanted.filter((one) => one.status !== "paused" && (isActive(one) || this.#isOld(one)));
    const loaded = await Promise.all(missing.slice(0, DETAILS_AT_ONCE).map(({ job_id }) => load(job_id)));
    for (const job of loaded) if (job !== null) this.byId.set(job.job_id, job);
  }

  #isOld({ job_id, status }: JobSummary): boolean {
    return this.byId.get(job_id)?.status !== status;
  }
}

export const jobDetails = new JobDetails();

/** A job that has just expired is left out. */
async function load(id: string): Promise<Job | null> {
  try {
    return await client.jobs.get(id);
  } catch (error) {
    if (error instanceof SlmError) return null;
    throw error;
  }
}
