import { en } from "./en";

export type Strings = typeof en;

/** The texts in the person's language. */
export const t: Strings = en;
