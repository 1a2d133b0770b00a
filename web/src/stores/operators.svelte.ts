import type { AuditEntry } from "slm-client";
import { client } from "./client";
import { Loaded } from "./loaded.svelte";

/** What only admins see: keys, settings, and what operators did. */
export const apiKeys = new Loaded(() => client.keys.list());
export const settings = new Loaded(() => client.settings());

const PAGE = 50;
const MAX_PAGE = 1000; // of the server

/** The newest entries of the audit log, and older ones as they are asked for. */
class Audit extends Loaded<AuditEntry[]> {
  hasMore = $state(false);
  #wanted = PAGE;

  constructor() {
    super(async () => {
      const found: AuditEntry[] = [];
      do {
        const after = found.at(-1)?.id;
        const page = await client.audit({ limit: Math.min(MAX_PAGE, this.#wanted - found.length), ...(after ? { after } : {}) });
        found.push(...page.entries);
        this.hasMore = page.has_more;
      } while (this.hasMore && found.length < this.#wanted);
      return found;
    });
  }

  showMore(): Promise<void> {
    this.#wanted *= 2;
    return this.refresh();
  }
}

export const audit = new Audit();
