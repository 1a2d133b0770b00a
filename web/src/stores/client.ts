import { SlmClient } from "slm-client";
import { session } from "./session.svelte";

/** The client for every call of the page. */
export const client = new SlmClient({
  apiKey: () => session.key,
  onError: (error) => {
    if (error.status === 401) session.askForKey(error.message);
  },
});
