/** Repeats a search only if something may have changed: the server reads texts for it, and views ask every few seconds. */
export class Search<Found> {
  #last: { key: string; found: Found } | null = null;

  /** `mayChange` tells whether something that was found may change by itself. */
  constructor(private readonly mayChange: (found: Found) => boolean = () => false) {}

  /** Search again at the next call, because of a change that `newest` may not show. */
  forget(): void {
    this.#last = null;
  }

  /** Return what `search` finds. `newest` describes the list without the search; changes begin there. */
  async find(query: string, newest: () => Promise<string>, search: () => Promise<Found>): Promise<Found> {
    const key = JSON.stringify([query, await newest()]);
    if (this.#last?.key === key && !this.mayChange(this.#last.found)) return this.#last.found;
    const found = await search();
    this.#last = { key, found };
    return found;
  }
}
