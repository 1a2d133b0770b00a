/** What a person has chosen, kept in this browser. */

export type Theme = "system" | "light" | "dark";

interface Kept {
  theme: Theme;
  hasSeenWelcome: boolean;
  keepsChatsHere: boolean;
}

const ITEM = "slm-preferences";
const DEFAULTS: Kept = { theme: "system", hasSeenWelcome: false, keepsChatsHere: false };

function read(): Kept {
  try {
    return { ...DEFAULTS, ...(JSON.parse(localStorage.getItem(ITEM) ?? "{}") as Partial<Kept>) };
  } catch {
    return { ...DEFAULTS };
  }
}

class Preferences {
  #kept = $state<Kept>(read());

  constructor() {
    this.#show();
  }

  get theme(): Theme {
    return this.#kept.theme;
  }

  set theme(theme: Theme) {
    this.#kept.theme = theme;
    this.#keep();
    this.#show();
  }

  get hasSeenWelcome(): boolean {
    return this.#kept.hasSeenWelcome;
  }

  set hasSeenWelcome(seen: boolean) {
    this.#kept.hasSeenWelcome = seen;
    this.#keep();
  }

  /** Whether conversations are kept in this browser only, and not on the server. */
  get keepsChatsHere(): boolean {
    return this.#kept.keepsChatsHere;
  }

  set keepsChatsHere(here: boolean) {
    this.#kept.keepsChatsHere = here;
    this.#keep();
  }

  #keep(): void {
    localStorage.setItem(ITEM, JSON.stringify(this.#kept));
  }

  #show(): void {
    document.documentElement.dataset.theme = this.#kept.theme;
  }
}

export const preferences = new Preferences();
