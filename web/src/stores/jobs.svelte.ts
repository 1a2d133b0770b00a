import { client } from "./client";
import { Loaded } from "./loaded.svelte";

/** The newest jobs: the caller's own, an admin's everybody's. */
export const jobs = new Loaded(() => client.jobs.list());
