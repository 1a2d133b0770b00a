import { client } from "./client";
import { Loaded } from "./loaded.svelte";

/** Everything that a request can name. */
export const models = new Loaded(() => client.models.list());
/** The adapters with all their versions. */
export const adapters = new Loaded(() => client.models.adapters());
export const aliases = new Loaded(() => client.models.aliases());
