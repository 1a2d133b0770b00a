import type { Http } from "./http.js";
import { fetchWithProgress } from "./progress.js";
import type { Accepted, Adapter, Alias, NamedModel, PublishedAdapter } from "./types.js";

/** Models, adapters and aliases: all that a request can name. Changes are for admins. */
export class Models {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  async list(): Promise<NamedModel[]> {
    return (await this.#http.json<{ models: NamedModel[] }>("GET", "/slm/models")).models;
  }

  async adapters(): Promise<Adapter[]> {
    return (await this.#http.json<{ adapters: Adapter[] }>("GET", "/slm/adapters")).adapters;
  }

  adapter(name: string): Promise<Adapter> {
    return this.#http.json("GET", adapterPath(name));
  }

  /**
   * Publish an archive (tar, tar.gz or zip) with a PEFT folder as the newest version of that name.
   *
   * `onProgress` needs a browser; it gets the part that was sent, 0 to 1.
   */
  upload(name: string, archive: Blob, base?: string, onProgress?: (part: number) => void): Promise<PublishedAdapter> {
    const headers = { "Content-Type": "application/octet-stream" }; // a browser's guess may be a type that is refused
    const fetch = onProgress && fetchWithProgress(onProgress);
    return this.#http.json("POST", "/slm/adapters", { query: { name, base }, body: archive, headers, fetch });
  }

  /** Delete an adapter, or one version such as `support@3`. */
  deleteAdapter(name: string): Promise<{ name: string; versions: number[] }> {
    return this.#http.json("DELETE", adapterPath(name));
  }

  async aliases(): Promise<Alias[]> {
    return (await this.#http.json<{ aliases: Alias[] }>("GET", "/slm/aliases")).aliases;
  }

  setAlias(alias: string, model: string): Promise<Alias> {
    return this.#http.json("PUT", aliasPath(alias), { json: { model } });
  }

  /** Point the alias to what it pointed to before. */
  rollBack(alias: string): Promise<Alias> {
    return this.#http.json("POST", aliasPath(alias, "/rollback"));
  }

  async deleteAlias(alias: string): Promise<void> {
    await this.#http.json("DELETE", aliasPath(alias));
  }

  /** Load a base model on every worker; returns the job that waits for it. */
  load(model?: string): Promise<Accepted> {
    return this.#http.json("POST", "/slm/load", { json: { async: true, ...(model ? { model } : {}) } });
  }

  /** Unload a base model from every worker; returns the job that waits for it. */
  unload(model?: string): Promise<Accepted> {
    return this.#http.json("POST", "/slm/unload", { json: { async: true, ...(model ? { model } : {}) } });
  }
}

function adapterPath(name: string): string {
  return `/slm/adapters/${encodeURIComponent(name)}`;
}

function aliasPath(alias: string, rest = ""): string {
  return `/slm/aliases/${encodeURIComponent(alias)}${rest}`;
}
