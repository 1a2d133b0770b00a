/** The numbers among the sampling settings: their range, and the value that has no effect. */

export type NumberSetting =
  | "temperature"
  | "max_new_tokens"
  | "top_p"
  | "top_k"
  | "min_p"
  | "repetition_penalty"
  | "presence_penalty"
  | "frequency_penalty"
  | "min_new_tokens"
  | "seed";

export interface NumberParameter {
  name: NumberSetting;
  min: number;
  max: number;
  step: number | "any";
  /** The value if the person sets none; undefined for "random" or "none". */
  usual?: number;
  /** Whether a slider helps. */
  hasSlider: boolean;
}

export const FEW: NumberParameter[] = [
  { name: "temperature", min: 0, max: 2, step: 0.05, usual: 0.7, hasSlider: true },
  { name: "max_new_tokens", min: 1, max: 1_048_576, step: 1, usual: 512, hasSlider: false },
];

export const MORE: NumberParameter[] = [
  { name: "top_p", min: 0.01, max: 1, step: 0.01, usual: 1, hasSlider: true },
  { name: "top_k", min: 0, max: 1_000_000, step: 1, usual: 0, hasSlider: false },
  { name: "min_p", min: 0, max: 1, step: 0.01, usual: 0, hasSlider: true },
  { name: "repetition_penalty", min: 0.5, max: 2, step: 0.01, usual: 1, hasSlider: true },
  { name: "presence_penalty", min: -2, max: 2, step: 0.1, usual: 0, hasSlider: true },
  { name: "frequency_penalty", min: -2, max: 2, step: 0.1, usual: 0, hasSlider: true },
  { name: "min_new_tokens", min: 0, max: 1_048_576, step: 1, usual: 0, hasSlider: false },
  { name: "seed", min: 0, max: 9_007_199_254_740_991, step: 1, hasSlider: false },
];
