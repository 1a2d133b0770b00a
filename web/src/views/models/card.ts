import type { GateRow, Trained, TrainingSample } from "slm-client";

/** What this server's training has written about an adapter. */
export interface AdapterCard {
  method: string | null;
  examplesTrained: number | null;
  examplesHeldOut: number | null;
  dataHash: string | null;
  lossBefore: number | null;
  lossAfter: number | null;
  steps: number | null;
  bestStep: number | null;
  tokens: number | null;
  seed: number | null;
  recipe: [name: string, value: string][];
  gate: Trained["gate"] | null;
  samples: TrainingSample[];
}

type Fields = Record<string, unknown>;

/** Read the card in an adapter's archive, in which anything can be: what has another form is left out. */
export function readCard(summary: Fields): AdapterCard {
  const [data, loss] = [fields(summary["data"]), fields(summary["held_out_loss"])];
  return {
    method: text(summary["method"]),
    examplesTrained: number(data["examples_trained"]),
    examplesHeldOut: number(data["examples_held_out"]),
    dataHash: text(data["sha256"]),
    lossBefore: number(loss["before"]),
    lossAfter: number(loss["after"]),
    steps: number(summary["steps"]),
    bestStep: number(summary["best_step"]),
    tokens: number(summary["tokens"]),
    seed: number(summary["seed"]),
    recipe: Object.entries(fields(summary["recipe"])).flatMap(([name, value]) => (value === null ? [] : [[name, typeof value === "string" ? value : JSON.stringify(value)]])),
    gate: gateOf(fields(summary["gate"])),
    samples: list(summary["samples"]).filter(isSample),
  };
}

function gateOf(gate: Fields): AdapterCard["gate"] {
  const rows = list(gate["rows"]).filter(isGateRow);
  return rows.length ? { passed: gate["passed"] === true, rows } : null;
}

function isGateRow(row: Fields): row is Fields & GateRow {
  const isMeasured = [row["base"], row["candidate"], row["bound"]].every((one) => typeof one === "number");
  return isMeasured && (row["current"] === null || typeof row["current"] === "number") && typeof row["name"] === "string" && typeof row["reason"] === "string";
}

function isSample(sample: Fields): sample is Fields & TrainingSample {
  return typeof sample["step"] === "number" && [sample["prompt"], sample["expected"], sample["response"]].every((one) => typeof one === "string");
}

function fields(value: unknown): Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : {};
}

const list = (value: unknown): Fields[] => (Array.isArray(value) ? value.map(fields) : []);
const text = (value: unknown): string | null => (typeof value === "string" ? value : null);
const number = (value: unknown): number | null => (typeof value === "number" ? value : null);
