import { client } from "../client";
import type { Keeper } from "./keeper";

const { conversations } = client;

/** Keeps conversations on the server, for every device of their owner. The server itself keeps the answers of jobs. */
export const serverKeeper: Keeper = {
  list: (wanted) => conversations.list({ limit: 50, ...wanted }),
  create: (about) => conversations.create(about),
  read: (id) => conversations.read(id),
  change: (id, changes) => conversations.change(id, changes),
  delete: (id) => conversations.delete(id),
  append: (id, message) => conversations.append(id, message),
  changeMessage: (id, messageId, changes) => conversations.changeMessage(id, messageId, changes),
  export: (id) => conversations.export(id),
  import: (exported) => conversations.import(exported),
  placeOf: (place) => place,
  async keepAnswer(place, jobId) {
    const { messages } = await conversations.read(place.id);
    const kept = messages.find((message) => message.job_id === jobId);
    return kept ?? conversations.append(place.id, { role: "assistant", job_id: jobId, parent_id: place.parent_id });
  },
  settle: async () => undefined,
};
