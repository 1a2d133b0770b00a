/** The address of a view is the part of the URL after `#/`: `#/chat/<id>`, `#/jobs/<id>`, `#/system`. */

export const VIEWS = ["chat", "jobs", "models", "training", "system"] as const;
export type View = (typeof VIEWS)[number];

export interface Route {
  view: View;
  /** The rest of the address, such as an id; empty for the view itself. */
  id: string;
  query: URLSearchParams;
}

class Router {
  current = $state.raw<Route>(parse(location.hash));

  constructor() {
    addEventListener("hashchange", () => {
      this.current = parse(location.hash);
    });
  }

  /** Show a view; with `replace`, "back" does not lead to the view before. */
  go(view: View, id = "", query: Record<string, string> = {}, { replace = false } = {}): void {
    const address = href(view, id, query);
    if (replace) history.replaceState(null, "", address);
    else history.pushState(null, "", address);
    this.current = parse(location.hash);
  }
}

function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [name = "", ...rest] = path.split("/");
  const view = VIEWS.find((one) => one === name) ?? "chat";
  return { view, id: decodeURIComponent(rest.join("/")), query: new URLSearchParams(query) };
}

/** The address of a view, for links. */
export function href(view: View, id = "", query: Record<string, string> = {}): string {
  const more = new URLSearchParams(query).toString();
  return `#/${view}${id && `/${encodeURIComponent(id)}`}${more && `?${more}`}`;
}

export const router = new Router();
