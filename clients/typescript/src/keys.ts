import type { Http } from "./http.js";
import type { ApiKey, KeyLimits, NewApiKey, RevokedKey, Role } from "./types.js";

/** The API keys of the server. For admins. */
export class Keys {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  async list(): Promise<ApiKey[]> {
    return (await this.#http.json<{ keys: ApiKey[] }>("GET", "/slm/keys")).keys;
  }

  /** Create a key; limits that are missing get their defaults. Only this answer has the secret. */
  create(name: string, role: Role, limits: Partial<KeyLimits> = {}): Promise<NewApiKey> {
    return this.#http.json("POST", "/slm/keys", { json: { name, role, limits } });
  }

  /** Change the role or some limits. */
  change(name: string, changes: { role?: Role; limits?: Partial<KeyLimits> }): Promise<ApiKey> {
    return this.#http.json("PATCH", keyPath(name), { json: changes });
  }

  /** Revoke a key, and cancel the work of its owner. */
  revoke(name: string): Promise<RevokedKey> {
    return this.#http.json("DELETE", keyPath(name));
  }
}

function keyPath(name: string): string {
  return `/slm/keys/${encodeURIComponent(name)}`;
}
