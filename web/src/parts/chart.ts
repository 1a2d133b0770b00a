/** A line of a chart. */
export interface ChartLine {
  label: string;
  /** One for each x; null where nothing is known. */
  values: (number | null)[];
  /** A colour of CSS, such as `var(--accent)`. */
  color: string;
  isDashed?: boolean;
  hasPoints?: boolean;
}
