import type { Account } from "slm-client";

const KEY_ITEM = "slm-api-key";

/** The API key, which is kept until the tab is closed, and the person it belongs to. */
class Session {
  key = $state<string | null>(sessionStorage.getItem(KEY_ITEM));
  account = $state.raw<Account | null>(null);
  /** Why the server wants a (different) key; null if it does not. */
  keyProblem = $state<string | null>(null);
  /** Rises with every change of the key, so that what was loaded with another key is loaded again. */
  generation = $state(0);

  get isAdmin(): boolean {
    return this.account?.role === "admin";
  }

  get mayTrain(): boolean {
    return this.isAdmin || this.account?.role === "trainer";
  }

  /** Use another key; `account` is that of the key, if it is known already. */
  useKey(key: string | null, account: Account | null = null): void {
    if (key === null) sessionStorage.removeItem(KEY_ITEM);
    else sessionStorage.setItem(KEY_ITEM, key);
    this.key = key;
    this.keyProblem = null;
    this.account = account;
    this.generation++;
  }

  askForKey(reason: string): void {
    this.keyProblem = reason;
  }
}

export const session = new Session();
