import type { AuditEntry } from "slm-client";
import { client } from "./client";
import { Loaded } from "./loaded.svelte";

/** What only admins see: keys, settings, and what operators did. */
export const apiKeys = new Loaded(() => client.keys.list());
export const settings = new Loaded(() => client.settings());

const PAGE = 50;

/** The newest entries of the audit log, and older ones as they are asked for. */
class Audit extends Loaded<AuditEntry[]> {
  hasMore = $state(false);
  #wanted = PAGE;

  constructor() {
    super(async () => {
      const { entries, has_more } = await client.audit({ limit: this.#wanted });
      this.hasMore = has_more;
      return entries;
    });
  }

  showMore(): Promise<void> {
    this.#wanted = Math.min(1000, this.#wanted * 2);
    return this.refresh();
  }
}

export const audit = new Audit();
