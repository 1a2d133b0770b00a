import { client } from "./client";
import { Loaded } from "./loaded.svelte";
import { session } from "./session.svelte";

/** The server, its models and its workers. */
export const server = new Loaded(() => client.info());

/** Load who the caller is, if that is not known yet. */
export async function refreshAccount(): Promise<void> {
  if (session.account !== null) return;
  session.account = await client.account().catch(() => null);
}
