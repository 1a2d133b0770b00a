import { type ConversationPage, type ListedConversation, SlmError } from "slm-client";
import { preferences } from "../preferences.svelte";
import { Search } from "../search";
import { browserKeeper } from "./browser";
import type { Keeper } from "./keeper";
import { serverKeeper } from "./server";

/** Tells other tabs of this browser that a conversation has changed. */
const channel = new BroadcastChannel("slm-conversations");

/** Where conversations are kept now. */
export function keeper(): Keeper {
  return preferences.keepsChatsHere ? browserKeeper : serverKeeper;
}

/** The list of conversations, and the search in it. */
class ConversationList {
  items = $state.raw<ListedConversation[]>([]);
  query = $state("");
  hasMore = $state(false);
  isLoaded = $state(false);
  error = $state.raw<SlmError | null>(null);
  #lastId: string | null = null;
  readonly #search = new Search<ConversationPage>();
  readonly #listeners = new Set<(id: string) => void>();

  constructor() {
    channel.onmessage = ({ data }: MessageEvent<string>) => {
      this.#refreshAfterChange();
      for (const listener of this.#listeners) listener(data);
    };
  }

  /** Load the first page again. */
  refresh = async (): Promise<void> => {
    const query = this.query;
    try {
      const page = await this.#firstPage(query.trim());
      if (query !== this.query) return; // a newer search is under way
      this.items = page.conversations;
      this.hasMore = page.has_more;
      this.#lastId = page.last_id;
      this.error = null;
    } catch (error) {
      if (!(error instanceof SlmError)) throw error;
      this.error = error;
    }
    this.isLoaded = true;
  };

  #firstPage(q: string): Promise<ConversationPage> {
    const kept = keeper();
    if (!q) return kept.list({});
    const newest = async () => {
      const { conversations } = await kept.list({});
      return conversations.map(({ id, updated_at }) => `${id} ${updated_at}`).join();
    };
    return this.#search.find(`${q} ${preferences.keepsChatsHere}`, newest, () => kept.list({ q }));
  }

  async loadMore(): Promise<void> {
    if (this.#lastId === null) return;
    const page = await keeper().list({ after: this.#lastId, q: this.query.trim() || undefined });
    this.items = [...this.items, ...page.conversations];
    this.hasMore = page.has_more;
    this.#lastId = page.last_id;
  }

  /** Call `listener` with the ids of conversations that another tab has changed. Returns how to end that. */
  onForeignChange(listener: (id: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Tell the other tabs that this tab has changed a conversation. */
  announce(id: string): void {
    channel.postMessage(id);
    this.#refreshAfterChange();
  }

  /** It may have been of a conversation that is not among the newest. */
  #refreshAfterChange(): void {
    this.#search.forget();
    void this.refresh();
  }

  async rename(id: string, title: string): Promise<void> {
    await keeper().change(id, { title });
    this.announce(id);
  }

  async remove(id: string): Promise<void> {
    await keeper().delete(id);
    this.announce(id);
  }
}

export const conversationList = new ConversationList();
