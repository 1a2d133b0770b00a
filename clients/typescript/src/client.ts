import { Conversations } from "./conversations.js";
import { Generations } from "./generations.js";
import { type ClientOptions, Http } from "./http.js";
import { Jobs } from "./jobs.js";
import { Keys } from "./keys.js";
import { Models } from "./models.js";
import { Training } from "./training.js";
import type { Account, AuditPage, Info, Message, Setting, Tokens } from "./types.js";

/** A client of one server. Its parts share the address and the key. */
export class SlmClient {
  readonly http: Http;
  readonly generations: Generations;
  readonly jobs: Jobs;
  readonly models: Models;
  readonly training: Training;
  readonly conversations: Conversations;
  readonly keys: Keys;

  constructor(options: ClientOptions = {}) {
    this.http = new Http(options);
    this.generations = new Generations(this.http);
    this.jobs = new Jobs(this.http);
    this.models = new Models(this.http);
    this.training = new Training(this.http);
    this.conversations = new Conversations(this.http);
    this.keys = new Keys(this.http);
  }

  /** The server, its models and its workers. */
  info(signal?: AbortSignal): Promise<Info> {
    return this.http.json("GET", "/slm/info", { signal });
  }

  /** The caller, and the totals of their ended jobs. */
  account(): Promise<Account> {
    return this.http.json("GET", "/slm/usage");
  }

  /** The tokens of a text without a template, or of messages; and the model's context length. */
  tokenize(what: { raw_text: string } | { messages: Message[] }, model?: string, signal?: AbortSignal): Promise<Tokens> {
    return this.http.json("POST", "/slm/tokenize", { json: { ...what, ...(model ? { model } : {}) }, signal });
  }

  /** The settings in force. For admins. */
  async settings(): Promise<Setting[]> {
    return (await this.http.json<{ settings: Setting[] }>("GET", "/slm/settings")).settings;
  }

  /** What operators did, newest first; `after` is the `last_id` of the page before. For admins. */
  audit(wanted: { limit?: number; after?: string } = {}): Promise<AuditPage> {
    return this.http.json("GET", "/slm/audit", { query: wanted });
  }

  /** The server's metrics, in Prometheus's text format. For admins. */
  async metrics(): Promise<string> {
    return (await this.http.send("GET", "/metrics")).text();
  }
}
